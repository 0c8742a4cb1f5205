"""The end of a run, for people: the card in the run folder and the one-screen summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from hf_asr.config.arguments import Arguments
from hf_asr.data.corpora import Split
from hf_asr.evaluation.report import compare_results
from hf_asr.evaluation.screen import SplitSize, end_of_run_screen, main_rate
from hf_asr.features.cache import PreparedSplit
from hf_asr.hub.model_card import write_model_card
from hf_asr.training.freezing import TrainableReport
from hf_asr.utterance import Drops


def all_drops(split: Split, prepared: PreparedSplit, more: Drops | None = None) -> Drops:
    """Return what was left out of a split on its whole way: reading, encoding, and while it was used."""
    drops = Drops()
    for part in (split.drops, prepared.drops, more or Drops()):
        drops.merge(part)
    return drops


def split_sizes(
    splits: Mapping[str, Split], prepared: Mapping[str, PreparedSplit], in_training: Drops
) -> dict[str, SplitSize]:
    """Return how much of each split was used.

    Args:
        splits: As read.
        prepared: As encoded.
        in_training: What training itself left out (streams and features computed on the fly).
    """
    sizes = {}
    for name, split in splits.items():
        drops = all_drops(split, prepared[name], in_training if name == "train" else None)
        table = prepared[name].table
        seconds = None if table is None else float(sum(prepared[name].column("duration")))
        sizes[name] = SplitSize(None if table is None else len(table), seconds, drops.counts())
    return sizes


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
    """Write README.md, the card, and print the summary on stdout; called on the main process.

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
    sizes = split_sizes(splits, prepared, trainer.drops)
    data_summary = {
        name: {"utterances": size.kept, "seconds": size.seconds, "drops": dict(size.dropped)}
        for name, size in sizes.items()
    }
    notes = [*notes, *(warning for split in splits.values() for warning in split.warnings)]
    rate = main_rate(arguments.data.language)
    difference = compare_results(run_dir / "baseline", run_dir / "test", rate=rate) if baseline else None
    write_model_card(
        run_dir,
        arguments,
        baseline=baseline,
        results=results,
        data_summary=data_summary,
        trainable=str(trainable),
        notes=notes,
        difference=difference,
    )
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
    )
    Console().print(screen)
