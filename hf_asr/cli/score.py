"""Score a file of hypotheses against a file of references: WER, CER, MER, WIL with an interval. No model is needed.

Both files are UTF-8 with one utterance a line, split at line feeds only; the carriage returns of a Windows file count
as space. An empty line is an empty text: a hypothesis of nothing, or a reference in which nobody speaks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError
from hf_asr.text import TEXT_PIPELINES

# Seed of the intervals.
SEED = 42
EXAMPLE = "hf-asr score --references test.txt --hypotheses whisper.txt --normalizer whisper_english --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--references", required=True, type=Path, metavar="FILE", help="what was said")
    parser.add_argument("--hypotheses", required=True, type=Path, metavar="FILE", help="what was recognised")
    parser.add_argument(
        "--normalizer",
        default="basic",
        metavar="NAME",
        help=f"what both sides go through first: {', '.join(TEXT_PIPELINES)} (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, rates as fractions")


def run(options: argparse.Namespace) -> int:
    """Score and print; return 0."""
    from rich.console import Console

    references, hypotheses = read_lines(options.references), read_lines(options.hypotheses)
    check_lengths(options, references, hypotheses)
    with Console(stderr=True).status(f"aligning {len(references):,} utterances"):
        results = score(references, hypotheses, options.normalizer)
    if options.json:
        print(json.dumps(results, ensure_ascii=False, allow_nan=False))
    else:
        print_table(results)
    return 0


def score(references: list[str], hypotheses: list[str], normalizer: str) -> dict[str, Any]:
    """Return every rate with its interval, the raw ones beside them, and slices by reference length.

    Args:
        references: What was said.
        hypotheses: What was recognised, in the same order.
        normalizer: Text pipeline of both sides.

    Raises:
        UserError: There is nothing to score, or no such normaliser.
    """
    from hf_asr.evaluation.columns import Clips
    from hf_asr.evaluation.counts import count_errors
    from hf_asr.evaluation.intervals import summarize
    from hf_asr.evaluation.metrics.corpus_bleu import corpus_bleu
    from hf_asr.evaluation.slices import ScoredSet, slice_all

    counts = count_errors(references, hypotheses, normalizer=normalizer)
    raw = count_errors(references, hypotheses, normalizer="none")
    bleu = corpus_bleu(counts.reference_normalized, counts.hypothesis_normalized)
    unknown = Clips([None] * len(counts), [""] * len(counts))
    slices = slice_all(ScoredSet(counts, unknown, "wer", SEED), ["reference_length"])
    return (
        summarize(counts, seed=SEED)
        | {"raw_wer": raw.wer(), "raw_cer": raw.cer(), "bleu": bleu.score, "bleu_signature": bleu.signature}
        | {"slices": slices["slices"], "seed": SEED}
    )


def read_lines(path: Path) -> list[str]:
    r"""Return a file's lines, split at ``\n`` only: U+2028 and its kin are part of a text.

    Raises:
        UserError: There is no such file, it is a folder, or it is not UTF-8.
    """
    try:
        # A byte order mark is not part of the first utterance.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"expected UTF-8 in {path}, found other bytes in line {line}; save the file as UTF-8") from None
    except OSError as error:
        raise UserError(f"expected a text file, found {path}: {error.strerror}; give one utterance a line") from None
    return text.removesuffix("\n").split("\n") if text else []


def check_lengths(options: argparse.Namespace, references: list[str], hypotheses: list[str]) -> None:
    """See that the files belong together.

    Raises:
        UserError: Their numbers of lines differ, there are none, or they are JSON Lines.
    """
    for path, texts in ((options.references, references), (options.hypotheses, hypotheses)):
        check_plain(path, texts)
    if len(references) != len(hypotheses):
        more = options.references if len(references) > len(hypotheses) else options.hypotheses
        raise UserError(
            f"expected one hypothesis a reference, found {len(references)} lines in {options.references} and "
            f"{len(hypotheses)} in {options.hypotheses}: {more} goes on from line "
            f"{min(len(references), len(hypotheses)) + 1}; write an empty line where nothing was recognised"
        )
    if not references:
        raise UserError(f"expected one utterance a line, found nothing in {options.references}; give a file with text")


def check_plain(path: Path, texts: Sequence[str]) -> None:
    """See that a file is no JSON Lines, whose names of fields would be counted as words that are always right.

    Raises:
        UserError: Every line that is not empty is a JSON object.
    """
    filled = [text for text in texts if text.strip()]
    if filled and all(_is_object(text) for text in filled):
        raise UserError(
            f"expected plain text in {path}, one utterance a line, found JSON objects; write the texts alone"
        )


def _is_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # also brackets without an end
        return False
    return True


def print_table(results: Mapping[str, Any]) -> None:
    """Print the rates in per cent, the counts and what was compared."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{results['num_utterances']:,} utterances, {results['num_words']:,} reference words")
    table.add_column(f"normalizer {results['normalizer']}")
    table.add_column("", justify="right")
    low, high = results["wer_interval"]
    table.add_row("WER", f"{100 * results['wer']:.2f} %")
    table.add_row(f"  95 % interval by {results['wer_interval_by']}", f"{100 * low:.2f} to {100 * high:.2f} %")
    table.add_row("  with nothing normalised", f"{100 * results['raw_wer']:.2f} %")
    for name in ("cer", "mer", "wil", "ser"):
        table.add_row(name.upper(), f"{100 * results[name]:.2f} %")
    table.add_row("BLEU", f"{results['bleu']:.2f}")
    for name in ("substitutions", "deletions", "insertions", "hits"):
        table.add_row(name, f"{results[name]:,}")
    if results["num_empty_references"]:
        table.add_row("empty references: every word is an insertion", f"{results['num_empty_references']:,}")
    Console().print(table)
