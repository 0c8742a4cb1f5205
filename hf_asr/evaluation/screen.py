"""The one screen at the end of a run: what went in, what came out, how sure that is, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hf_asr.evaluation.intervals import PairedDifference, Rate
from hf_asr.text import cer_first
from hf_asr.utterance import Seconds

# At most so many pieces of advice: the rest would not be read.
MAX_ADVICE = 3
# Above these shares a number is worth a word. A set's insertions are seldom more than a twentieth of its words unless
# the model loops or the references leave things out; clips dropped are seldom more than a twentieth of a sound corpus.
MANY_INSERTIONS = 0.05
MANY_DELETIONS = 0.10
MANY_DROPPED = 0.05
# An interval wider than this share of the rate itself cannot rank two good models.
WIDE_INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class SplitSize:
    """How much of a split was used.

    Attributes:
        kept: Clips used; None for a stream, whose length nobody knows.
        seconds: Their length together; None when not known.
        dropped: Clips left out, by reason (``Drops.counts()``).
    """

    kept: int | None
    seconds: Seconds | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)

    def share_dropped(self) -> float:
        """Return the dropped clips' share of all; 0 for a stream."""
        lost = sum(self.dropped.values())
        return lost / (lost + self.kept) if lost and self.kept is not None else 0.0


def end_of_run_screen(
    *,
    name: str,
    run_dir: str | Path,
    splits: Mapping[str, SplitSize],
    trainable_parameters: int,
    total_parameters: int,
    results: Mapping[str, Any],
    baseline: Mapping[str, Any] | None = None,
    difference: PairedDifference | None = None,
    language: str | None = None,
    also: Sequence[tuple[str, str]] = (),
) -> RenderableType:
    """Return the screen as something rich can print.

    Args:
        name: The experiment's name.
        run_dir: The run folder.
        splits: Size of each split, by name.
        trainable_parameters: How many parameters were trained.
        total_parameters: How many the model has.
        results: What ``test_results.json`` holds for the fine-tuned model.
        baseline: The same for the untouched model; None when it was not scored.
        difference: Paired difference of ``main_rate(language)``, result minus baseline.
        language: Language tag of the corpus; decides whether CER or WER comes first.
        also: Name and line of each other window and set that was scored.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rate = main_rate(language)
    for label, text in (
        *_split_lines(splits),
        ("trained", _parameters(trainable_parameters, total_parameters)),
        *_rate_lines(rate, baseline, results),
        ("difference", _difference(rate, difference, baseline)),
        *also,
        ("speed", _speed(results)),
        ("files", f"{run_dir}: best_checkpoint/, test/, {'baseline/, ' if baseline is not None else ''}README.md"),
        ("report", f"{run_dir}/test/report.html"),
    ):
        if text:
            table.add_row(label, Text(text))
    tips = advice(results, splits, baseline=baseline, difference=difference, run_dir=run_dir, language=language)
    return Panel(Group(table, Text(), Text("next", style="bold"), *(Text(f"- {tip}") for tip in tips)), title=name)


def main_rate(language: str | None) -> Rate:
    """Return the rate that is told first: ``cer`` for languages written without spaces, else ``wer``."""
    return "cer" if cer_first(language) else "wer"


def advice(
    results: Mapping[str, Any],
    splits: Mapping[str, SplitSize],
    *,
    baseline: Mapping[str, Any] | None,
    difference: PairedDifference | None,
    run_dir: str | Path,
    language: str | None = None,
) -> list[str]:
    """Return what to try next, the most useful first, each piece with the number it comes from."""
    rate = main_rate(language)
    found = [
        *_advice_on_gain(rate, results, baseline, difference),
        *_advice_on_errors(results),
        *_advice_on_data(splits),
    ]
    if not found:
        found = [
            f"hear it: hf-asr transcribe --model {run_dir}/best_checkpoint --input FILE",
            f"publish it: hf-asr push {run_dir} --repo ORG/NAME",
        ]
    return found[:MAX_ADVICE]


def _advice_on_gain(
    rate: Rate, results: Mapping[str, Any], baseline: Mapping[str, Any] | None, difference: PairedDifference | None
) -> Iterator[str]:
    low, high = results[f"{rate}_interval"]
    if baseline is None:
        yield "score the untouched model too, to know what was gained: evaluation.baseline=true"
    elif difference is not None and difference.significant and difference.difference > 0:
        yield (
            f"it became worse by {_points(difference.difference)}: try a tenth of training.learning_rate, and "
            "`hf-asr doctor` for labels that do not fit the audio"
        )
    elif difference is not None and not difference.significant:
        yield (
            f"the change may be chance (p = {difference.p_value:.2g}): train longer, or test on more than "
            f"{results['num_utterances']:,} clips"
        )
    elif results[rate] and (high - low) / results[rate] > WIDE_INTERVAL:
        yield (
            f"the interval is {_points(high - low)} wide: test on more than {results['num_utterances']:,} clips before "
            "you compare settings"
        )


def _advice_on_errors(results: Mapping[str, Any]) -> Iterator[str]:
    words = results["num_words"]
    if results["insertions"] > MANY_INSERTIONS * words:
        broken = results.get("generation", {}).get("no_repeat_ngram_size")
        cure = "" if broken else "; evaluation.generation.no_repeat_ngram_size=3 breaks them"
        yield (
            f"insertions are {_per_cent(results['insertions'] / words)} of the words: look for "
            f"{'made-up text' if broken else 'loops'} in test/test_predictions.csv{cure}"
        )
    if results["deletions"] > MANY_DELETIONS * words:
        yield (
            f"deletions are {_per_cent(results['deletions'] / words)} of the words: see whether transcripts end before "
            "the audio does, and whether evaluation.generation.max_new_tokens cuts them"
        )


def _advice_on_data(splits: Mapping[str, SplitSize]) -> Iterator[str]:
    for name, size in splits.items():
        if size.share_dropped() > MANY_DROPPED:
            reason = max(size.dropped, key=lambda reason: size.dropped[reason])
            yield (
                f"{_per_cent(size.share_dropped())} of {name} was left out, mostly as {_words(reason)}: training.log "
                "names the clips"
            )


def _split_lines(splits: Mapping[str, SplitSize]) -> Iterator[tuple[str, str]]:
    for name, size in splits.items():
        kept = "a stream" if size.kept is None else f"{size.kept:,} clips"
        hours = "" if size.seconds is None else f", {size.seconds / 3600:.2f} h"
        reasons = ", ".join(f"{_words(reason)} {number:,}" for reason, number in sorted(size.dropped.items()))
        yield name, f"{kept}{hours}" + (f"; left out: {reasons}" if reasons else "; nothing left out")


def _rate_lines(
    rate: Rate, baseline: Mapping[str, Any] | None, results: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the main rate with its interval, then the other one, each before and after."""
    by = f"95 % by {results['wer_interval_by']}, normalizer {results['normalizer']}"
    other: Rate = "wer" if rate == "cer" else "cer"
    yield rate.upper(), f"{_before(rate, baseline)}{_with_interval(rate, results)} ({by})"
    yield other.upper(), f"{_before(other, baseline)}{_with_interval(other, results)}"


def _before(rate: Rate, baseline: Mapping[str, Any] | None) -> str:
    return "" if baseline is None else f"{_with_interval(rate, baseline)} -> "


def _with_interval(rate: Rate, results: Mapping[str, Any]) -> str:
    low, high = results[f"{rate}_interval"]
    return f"{_per_cent(results[rate])} [{100 * low:.2f}, {100 * high:.2f}]"


def _difference(rate: Rate, difference: PairedDifference | None, baseline: Mapping[str, Any] | None) -> str:
    if difference is None or baseline is None:
        return ""
    verdict = "significant" if difference.significant else "not significant"
    relative = f", {100 * difference.difference / baseline[rate]:+.1f} % relative" if baseline[rate] else ""
    return (
        f"{100 * difference.difference:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}] points of "
        f"{rate.upper()}{relative}; paired by {difference.by}, p = {difference.p_value:.2g}: {verdict}"
    )


def _parameters(trainable: int, total: int) -> str:
    return f"{trainable:,} of {total:,} parameters ({_per_cent(trainable / total)})"


def _speed(results: Mapping[str, Any]) -> str:
    rtfx = results["rtfx"]
    return "" if rtfx is None else f"RTFx {rtfx:.1f}: seconds of audio decoded in one second, test split"


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def _per_cent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def _points(rate: float) -> str:
    return f"{100 * rate:.2f} points"
