"""The end of a classifier's run, for people: the card in the run folder and the one-screen summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hf_asr.cli.run_report import write_report
from hf_asr.cli.summary import data_summary_of, sizes_of_run
from hf_asr.config.arguments import Arguments
from hf_asr.data.corpora import Split
from hf_asr.features.cache import PreparedSplit
from hf_asr.hub.classifier_card import beats_guess, write_classifier_card
from hf_asr.hub.trackers import end_trackers
from hf_asr.training.freezing import TrainableReport


def summarize_classifier(
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
        baseline: Scores of what is said without listening; None when it was not scored.
        results: Scores of the best checkpoint.
        notes: What the family has to say on the card.
    """
    sizes = sizes_of_run(splits, prepared, trainer, results)
    notes = [*notes, *(warning for split in splits.values() for warning in split.warnings)]
    write_classifier_card(
        arguments.run_dir,
        arguments,
        baseline=baseline,
        results=results,
        data_summary=data_summary_of(sizes),
        trainable=str(trainable),
        notes=notes,
    )
    write_report([arguments.run_dir], rows=splits["test"].rows)
    end_trackers(trainer, arguments, results, splits["test"].rows)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, size in sizes.items():
        left_out = ", ".join(
            f"{reason.replace('_', ' ')} {number:,}" for reason, number in sorted(size.dropped.items())
        )
        kept = "a stream" if size.kept is None else f"{size.kept:,} clips"
        table.add_row(name, Text(f"{kept}; left out: {left_out or 'nothing'}"))
    table.add_row("trained", Text(str(trainable)))
    for line in score_lines(results):
        table.add_row(*map(Text, line))
    table.add_row("files", Text(f"{arguments.run_dir}: best_checkpoint/, test/, baseline/, README.md"))
    table.add_row("report", Text(f"{arguments.run_dir}/test/report.html"))
    table.add_row("next", Text(advice(results)))
    Console().print(Panel(table, title=arguments.experiment.name))


def score_lines(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, text) for each score, its interval, and what is reached without listening."""
    by = f"95 % by {results['interval_by']}"
    if "accuracy" in results:
        low, high = (100 * end for end in results["accuracy_interval"])
        guess = f"always '{results['majority_class']}': {100 * results['majority_accuracy']:.2f} %"
        yield "accuracy", f"{100 * results['accuracy']:.2f} % [{low:.2f}, {high:.2f}] ({by}); {guess}"
        low, high = (100 * end for end in results["macro_f1_interval"])
        yield "macro F1", f"{100 * results['macro_f1']:.2f} % [{low:.2f}, {high:.2f}]"
        named = [(name, recall) for name, recall in results["recall"].items() if recall is not None]
        yield "recall", ", ".join(f"{name} {100 * recall:.0f} %" for name, recall in named)
    else:
        low, high = results["rmse_interval"]
        guess = f"always {results['mean_of_train']:.4g}: {results['rmse_of_mean']:.4g}"
        yield "RMSE", f"{results['rmse']:.4g} [{low:.4g}, {high:.4g}] ({by}); {guess}"
        yield "R2", "not defined" if results["r2"] is None else f"{results['r2']:.3f}"


def advice(results: Mapping[str, Any]) -> str:
    """Return what to try next."""
    if not beats_guess(results):
        return (
            "not proven better than saying the same every time: train longer, try head.layers=weighted and "
            "head.pooling=statistics, or test on more speakers"
        )
    if "accuracy" in results:
        name = min((n for n, r in results["recall"].items() if r is not None), key=lambda n: results["recall"][n])
        return f"the weakest class is '{name}': see the confusion matrix in README.md; head.class_weights=balanced"
    return "see test/test_predictions.csv for the largest errors"
