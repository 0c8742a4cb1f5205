"""Score a model on a split of a configuration's corpus: WER, CER, MER, WIL with an interval, and predictions.

The configuration says what is decoded and how; --model says by what, in place of model.name_or_path, with its own
tokenizer. On a run's own config.yaml and best_checkpoint it repeats the run's test to the last digit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.cli.loading import load_for, make_folder, on_this_device
from hf_asr.config.arguments import LONG_FORMS, SPLITS, Arguments
from hf_asr.errors import UserError

if TYPE_CHECKING:
    import torch

EXAMPLE = (
    "hf-asr evaluate --model runs/whisper_ru/best_checkpoint --config runs/whisper_ru/config.yaml "
    "--output-dir results --save-predictions"
)

# What a configuration says about its own model and not about the one given by --model.
OF_THE_MODEL = ("name_or_path", "tokenizer_name_or_path", "revision", "family")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--model", required=True, metavar="ID|DIR", help="checkpoint to score")
    parser.add_argument("--config", nargs="+", required=True, metavar="YAML", help="corpus, and how it is decoded")
    parser.add_argument("--split", choices=SPLITS, help="which split (default: test; with --sweep validation)")
    parser.add_argument("--output-dir", required=True, type=Path, metavar="DIR", help="where test_results.json goes")
    parser.add_argument("--save-predictions", action="store_true", help="write test_predictions.csv as well")
    parser.add_argument(
        "--detailed-analysis",
        action="store_true",
        help="write test_detailed_analysis.json as well: slices, confusions, loops, the worst utterances",
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="DIR", help="run, or earlier output, that evaluation.also is compared with"
    )
    parser.add_argument(
        "--sweep",
        action="append",
        metavar="NAME=VALUE,...",
        help="try decoding settings out on validation: num_beams=1,5; several make a grid",
    )
    parser.add_argument(
        "--long-form",
        choices=LONG_FORMS,
        help="decode whole recordings: moving on by timestamps, or in windows cut at quiet points",
    )
    parser.add_argument("--prompt", metavar="TEXT", help="what a Whisper is told to have come before a recording")
    parser.add_argument(
        "--condition-on-previous-text", action="store_true", help="tell a Whisper what it wrote before each window"
    )
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="over the YAML's values")


def run(options: argparse.Namespace) -> int:
    """Score, write, and print what came out; return 1 where a set lost more than evaluation.also_limits, else 0."""
    if options.sweep:
        from hf_asr.cli.decoding_sweep import run_sweep

        return run_sweep(options, read_arguments)
    options.split = options.split or "test"
    arguments = read_arguments(options, long_form_overrides(options))
    if arguments.evaluation.long_form:
        from hf_asr.cli.long_form import run_long_form

        return run_long_form(arguments, options)
    make_folder(options.output_dir)
    state = on_this_device(arguments)
    results = evaluate(
        arguments,
        options.split,
        options.output_dir,
        state.device,
        options.save_predictions,
        options.detailed_analysis,
        baseline=options.baseline,
    )
    if state.is_main_process:
        show(results, options)
        return show_other_sets(arguments, options)
    return 0


def long_form_overrides(options: argparse.Namespace) -> list[str]:
    """Return this verb's own options on whole recordings as ``key=value``."""
    given = {
        "long_form": options.long_form,
        "prompt": options.prompt,
        "condition_on_previous_text": options.condition_on_previous_text or None,
    }
    return [f"evaluation.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def read_arguments(options: argparse.Namespace, more: Sequence[str] = ()) -> Arguments:
    """Read the configuration with --model in the place of its own model.

    Args:
        options: The verb's options.
        more: Overrides beside those of the command line.

    Raises:
        UserError: Anything is wrong with the configuration.
    """
    from hf_asr.config.parser import is_override, load_arguments

    files = [word for word in options.config if not is_override(word)]
    overrides = [*(word for word in options.config if is_override(word)), *options.overrides, *more]
    if not files:
        raise UserError("--config: expected a YAML file, found none; name one")
    given = {word.partition("=")[0] for word in overrides}
    if "model.name_or_path" in given:
        raise UserError("model.name_or_path: expected the model in --model alone, found it twice; leave this one out")
    # A word in JSON's quotes is the same word in YAML's, whatever is in it.
    own = {name: "null" for name in OF_THE_MODEL if f"model.{name}" not in given}
    own["name_or_path"] = json.dumps(options.model, ensure_ascii=False)
    arguments = load_arguments(files, [*overrides, *(f"model.{name}={value}" for name, value in own.items())])
    # A split that is scored is read whole, and one by one; a head is scored with the characters it was saved with.
    data, ctc = replace(arguments.data, streaming=False), replace(arguments.ctc, vocabulary="checkpoint")
    return replace(arguments, data=data, ctc=ctc)


def evaluate(
    arguments: Arguments,
    split: str,
    output_dir: Path,
    device: torch.device,
    save_predictions: bool = True,
    detailed_analysis: bool = False,
    baseline: Path | None = None,
) -> dict[str, Any]:
    """Score ``arguments.model`` on a split, as the recipe scores its baseline and its test.

    Args:
        arguments: The whole configuration.
        split: ``train``, ``validation`` or ``test``.
        output_dir: Folder of test_results.json.
        device: Where to decode.
        save_predictions: Whether to write test_predictions.csv.
        detailed_analysis: Whether to write test_detailed_analysis.json.
        baseline: Folder with earlier results of ``evaluation.also``, which is scored beside the test split.

    Returns:
        What test_results.json holds.

    Raises:
        UserError: The model, the corpus or the folder cannot be used, or an analysis of a classifier is wanted.
    """
    from hf_asr.evaluation.also import compare_with, score_sets
    from hf_asr.evaluation.run import score_split
    from hf_asr.inference.generate import on_main, resolve_conditions
    from hf_asr.models import get_family

    family = get_family(arguments.model)
    if detailed_analysis and family.scoring != "words":
        raise UserError(
            f"--detailed-analysis: expected a model that writes words, found a {family.name}, whose results are "
            f"{family.scoring}; leave it out, test_results.json holds them all"
        )
    loaded = load_for(arguments, split, device)
    conditions = resolve_conditions(family, arguments, device, loaded.model.dtype)
    results = score_split(
        loaded.model,
        family,
        loaded.processor,
        loaded.prepared,
        conditions,
        arguments,
        output_dir,
        left_out=loaded.drops,
        save_predictions=save_predictions,
        about={"model": arguments.model.name_or_path},
        detailed_analysis=detailed_analysis,
    )
    if split == "test" and arguments.evaluation.also:
        score_sets(loaded.model, family, loaded.processor, conditions, arguments, output_dir, "test")
        on_main(compare_with, arguments, output_dir, baseline)
    return results


def show(results: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Print the rates, what they were counted on, and where the files are."""
    if "wer" not in results:
        from hf_asr.cli.classifier_summary import score_lines

        print(*(f"{name}: {text}" for name, text in score_lines(results)), sep="\n")
        show_rest(results, options)
        return
    low, high = results["wer_interval"]
    rates = ", ".join(f"{name.upper()} {100 * results[name]:.2f} %" for name in ("cer", "mer", "wil"))
    print(
        f"WER {100 * results['wer']:.2f} % (95 % interval by {results['wer_interval_by']} {100 * low:.2f} to "
        f"{100 * high:.2f} %), normalizer {results['normalizer']}"
    )
    print(rates)
    print(
        f"{results['num_utterances']:,} clips of {options.split}, {results['num_words']:,} words: "
        f"{results['substitutions']:,} substitutions, {results['deletions']:,} deletions, "
        f"{results['insertions']:,} insertions, {results['hits']:,} hits"
    )
    show_rest(results, options)


def show_rest(results: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Print the speed, what was left out, and where the file is."""
    if results["rtfx"]:
        seconds, wall = results["seconds_of_audio"], results["wall_seconds"]
        print(f"{seconds:,.1f} s of audio in {wall:,.1f} s: RTFx {results['rtfx']:.1f}")
    if results["skipped"]:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in results["skipped"].items())
        print(f"left out: {reasons}; they are named in test_results.json")
    print(options.output_dir / "test_results.json")
    if options.detailed_analysis:
        print(options.output_dir / "test_detailed_analysis.json")


def show_other_sets(arguments: Arguments, options: argparse.Namespace) -> int:
    """Print the sets of evaluation.also; return 1 where one lost more than it may, else 0."""
    if options.split != "test" or not arguments.evaluation.also:
        return 0
    from hf_asr.evaluation.guardrails import exceeded, lines, read_guardrails

    found = read_guardrails(options.output_dir)
    print(*(f"{name}: {line}" for name, line in lines(found)), sep="\n")
    if arguments.evaluation.also_limits and options.baseline is None:
        print("evaluation.also_limits: not checked, there is nothing to compare with; give --baseline", file=sys.stderr)
    if message := exceeded(found):
        print(f"hf-asr evaluate: {message}", file=sys.stderr)
    return 1 if message else 0
