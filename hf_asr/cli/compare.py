"""Compare two runs on the same clips: the paired difference with its interval and tests, wins and losses by slice.

RUN is a run's folder (its test/ is taken), a folder with test_predictions.csv, or such a file. The difference is
RUN_B minus RUN_A: below 0, RUN_B makes fewer errors.

--fail-on-regression exits with 1 where RUN_B is surely worse by more than MARGIN: where the lower end of the 95 %
interval of the difference lies above it. MARGIN is a fraction, 0.005 being half a point of WER; without one it is 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError
from hf_asr.text import TEXT_PIPELINES

EXAMPLE = "hf-asr compare runs/whisper_ru/baseline runs/whisper_ru --by speaker --fail-on-regression 0.002"
# Utterances that the screen shows; comparison.json has more.
SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("run_a", metavar="RUN_A", help="the first run")
    parser.add_argument("run_b", metavar="RUN_B", help="the second, on the same clips")
    parser.add_argument(
        "--by",
        choices=("utterance", "speaker"),
        help="what is drawn (default: speaker where every clip's is known and there are six or more, else utterance)",
    )
    parser.add_argument("--rate", choices=("wer", "cer"), default="wer", help="what is compared (default: %(default)s)")
    parser.add_argument(
        "--normalizer",
        choices=tuple(TEXT_PIPELINES),
        help="score both anew through this text pipeline (default: as the runs were scored)",
    )
    parser.add_argument(
        "--fail-on-regression",
        nargs="?",
        const=0.0,
        type=fraction,
        metavar="MARGIN",
        help="exit with 1 where the interval of the difference lies above MARGIN (a fraction, by default 0)",
    )
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="write comparison.json there")
    parser.add_argument("--json", action="store_true", help="print comparison.json on stdout")


def fraction(text: str) -> float:
    """Read the margin; a run's name that stands behind the option is told."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected a fraction such as 0.005, found '{text}'; give it, or write the option behind both runs"
        ) from error


def run(options: argparse.Namespace) -> int:
    """Compare, write and print; return 1 for a regression that was to be found, else 0.

    Raises:
        UserError: A run has no predictions, the clips differ, or the margin is no sensible number.
    """
    margin = options.fail_on_regression or 0.0
    if not 0 <= margin < 1:
        raise UserError(
            "--fail-on-regression: expected a fraction from 0 to below 1, such as 0.005 for half a point, found "
            f"{margin:g}"
        )

    from rich.console import Console

    from hf_asr.evaluation.comparison import COMPARISON, compare, dumped, pair_up, read_system
    from hf_asr.evaluation.report import replace_file

    with Console(stderr=True).status("comparing"):
        first, second = read_system(options.run_a), read_system(options.run_b)
        pair = pair_up(first, second, by=options.by, rate=options.rate, normalizer=options.normalizer)
        found = compare(first, second, pair, normalizer=options.normalizer, margin=margin)
    if options.output_dir is not None:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        replace_file(options.output_dir / COMPARISON, dumped(found))
    if options.json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
    else:
        print(*lines(found), sep="\n")
    if options.fail_on_regression is None or not found["regression"]:
        return 0
    print(f"hf-asr compare: regression: {_difference(found)} lies above {100 * margin:g} points", file=sys.stderr)
    return 1


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the screen shows of a comparison."""
    name = found["rate"].upper()
    for key in ("a", "b"):
        side = found[key]
        low, high = (100 * end for end in side["interval"])
        yield f"{key.upper()} {name} {100 * side['rate']:.2f} % [{low:.2f}, {high:.2f}]  {side['path']}"
    verdict = "significant" if found["significant"] else "may be chance"
    yield f"B - A {_difference(found)}, by {found['by']}, p = {found['p_value']:.2g}: {verdict}"
    if found["matched_pairs"]:
        test = found["matched_pairs"]
        yield f"{test['test']} over {test['segments']:,} segments: z = {test['z']:.2f}, p = {test['p_value']:.2g}"
    won = found["utterances"]
    yield (
        f"{found['num_utterances']:,} utterances, {found['num_words']:,} words: B has fewer errors in {won['win']:,}, "
        f"as many in {won['tie']:,}, more in {won['loss']:,}; normalizer {found['normalizer'] or 'not known'}"
    )
    yield from _slices(found)
    for one in found["changed"][:SHOWN]:
        yield f"{one['id']}: {one['errors_a']} -> {one['errors_b']} errors"
        yield from (f"    {label} {one[key]}" for label, key in (("said", "reference"), ("A   ", "a"), ("B   ", "b")))


def _slices(found: Mapping[str, Any]) -> Iterator[str]:
    for part in found["slices"]:
        if part["unknown"]:
            yield (
                f"  {part['name']}: unknown, or no finite number, for {part['unknown']:,} of "
                f"{found['num_utterances']:,} utterances, which are in no group"
            )
        for one in part["groups"]:
            if one["difference"] is None or one["small"]:
                continue
            low, high = (100 * end for end in one["difference_interval"])
            yield (
                f"  {part['name']} {one['label']}: {100 * one['a']:.2f} -> {100 * one['b']:.2f} % "
                f"({100 * one['difference']:+.2f} [{low:+.2f}, {high:+.2f}]), {one['utterances']:,} utterances, "
                f"{one['win']:,} won, {one['loss']:,} lost"
            )


def _difference(found: Mapping[str, Any]) -> str:
    low, high = (100 * end for end in found["difference_interval"])
    return f"{100 * found['difference']:+.2f} points [{low:+.2f}, {high:+.2f}]"
