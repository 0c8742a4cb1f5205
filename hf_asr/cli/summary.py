"""The end of a run, for people: the card in the run folder and the one-screen summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from hf_asr.cli.run_report import write_report
from hf_asr.config.arguments import Arguments
from hf_asr.data.corpora import Split
from hf_asr.evaluation.guardrails import lines, read_guardrails
from hf_asr.evaluation.other_windows import lines_of_windows, notes_of_windows
from hf_asr.evaluation.report import compare_results
from hf_asr.evaluation.screen import SplitSize, end_of_run_screen, main_rate
from hf_asr.features.cache import PreparedSplit
from hf_asr.hub.model_card import write_model_card
from hf_asr.hub.trackers import end_trackers
from hf_asr.training.freezing import TrainableReport
from hf_asr.utterance import Drops


def all_drops(split: Split, prepared: PreparedSplit, more: Drops | None = None) -> Drops:
    """Return what was left out of a split on its whole way: reading, encoding, and while it was used."""
    drops = Drops()
    for part in (split.drops, prepared.drops, more or Drops()):
        drops.merge(part)
    return drops


def split_sizes(
    splits: Mapping[str, Split], prepared: Mapping[str, PreparedSplit], in_use: Mapping[str, Drops]
) -> dict[str, SplitSize]:
    """Return how much of each split was used.

    Args:
        splits: As read.
        prepared: As encoded.
        in_use: What was left out of a split only while it was used (streams and features computed on the fly).
    """
    sizes = {}
    for name, split in splits.items():
        drops = all_drops(split, prepared[name], in_use.get(name))
        seconds = _seconds_kept(prepared[name], in_use.get(name, Drops()))
        sizes[name] = SplitSize(
            None if seconds is None else len(seconds), None if seconds is None else sum(seconds), drops.counts()
        )
    return sizes


def _more_drops(results: Mapping[str, Any], known: Drops) -> Drops:
    """Return what a split's results left out beyond what was known before it was decoded."""
    more = Drops()
    for reason, items in Drops.from_dict(results["skipped_items"]).reasons.items():
        for item in items:
            if item not in known.reasons.get(reason, []):
                more.add(reason, *item)
    return more


def _seconds_kept(prepared: PreparedSplit, drops: Drops) -> list[float] | None:
    """Return the duration of every clip that was used; None for a stream."""
    if prepared.table is None:
        return None
    dropped = {id for items in drops.reasons.values() for id, _ in items}
    clips = zip(prepared.column("id"), prepared.column("duration"), strict=True)
    return [seconds for id, seconds in clips if id not in dropped]


def sizes_of_run(
    splits: Mapping[str, Split], prepared: Mapping[str, PreparedSplit], trainer: Any, results: Mapping[str, Any]
) -> dict[str, SplitSize]:
    """Return how much of each split a run used, what was left out while training and decoding taken off."""
    in_decoding = _more_drops(results, all_drops(splits["test"], prepared["test"]))
    in_use = {"train": trainer.drops, "validation": trainer.validation_drops, "test": in_decoding}
    return split_sizes(splits, prepared, in_use)


def data_summary_of(sizes: Mapping[str, SplitSize]) -> dict[str, dict[str, Any]]:
    """Return what a card says about each split."""
    return {
        name: {"utterances": size.kept, "seconds": size.seconds, "drops": dict(size.dropped)}
        for name, size in sizes.items()
    }


def summarize_run(
    arguments: Arguments,
    splits: Mapping[str, Split],
    prepared: Mapping[str, PreparedSplit],
    trainer: Any,
    trainable: TrainableReport,
    baseline: Mapping[str, Any] | None,
    results: Mapping[str, Any],
    notes: list[str],
) -> None:
    """Write README.md, the card, and test/report.html, and print the summary on stdout; called on the main process.

    Args:
        arguments: The whole configuration.
        splits: As read.
        prepared: As encoded.
        trainer: After training; it knows what it left out.
        trainable: What was trained.
        baseline: Scores of the untouched model; None when it was not scored.
        results: Scores of the best checkpoint.
        notes: What the family has to say on the card.
    """
    run_dir = arguments.run_dir
    sizes = sizes_of_run(splits, prepared, trainer, results)
    data_summary = data_summary_of(sizes)
    rate = main_rate(arguments.data.language)
    notes = [*notes, *(warning for split in splits.values() for warning in split.warnings)]
    notes += notes_of_windows(run_dir, arguments, rate)
    difference = compare_results(run_dir / "baseline", run_dir / "test", rate=rate) if baseline else None
    guardrails = read_guardrails(run_dir)
    write_model_card(
        run_dir,
        arguments,
        baseline=baseline,
        results=results,
        data_summary=data_summary,
        trainable=str(trainable),
        notes=notes,
        difference=difference,
        usage=trainer.family.usage,
        guardrails=guardrails,
    )
    write_report([run_dir], rows=splits["test"].rows)
    end_trackers(trainer, arguments, results, splits["test"].rows)
    screen = end_of_run_screen(
        name=arguments.experiment.name,
        run_dir=run_dir,
        splits=sizes,
        trainable_parameters=trainable.trainable,
        total_parameters=trainable.total,
        results=results,
        baseline=baseline,
        difference=difference,
        language=arguments.data.language,
        also=[*lines_of_windows(run_dir, arguments, rate), *lines(guardrails)],
    )
    Console().print(screen)
