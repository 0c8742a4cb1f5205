"""Training curves of a page, from metrics_on_all_epochs.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from hf_asr.evaluation.page import columns, note
from hf_asr.evaluation.page_charts import line_chart
from hf_asr.evaluation.page_run import Run
from hf_asr.evaluation.page_scale import per_cent, plain

# Title of a chart, to the keys it shows with their names; a chart without a value is left out.
CHARTS: dict[str, dict[str, str]] = {
    "Loss": {"loss": "training", "eval_loss": "validation"},
    "WER and CER on validation": {"eval_wer": "WER", "eval_cer": "CER"},
    "Macro F1 on validation": {"eval_macro_f1": "macro F1"},
    "RMSE on validation": {"eval_rmse": "RMSE"},
    "Word errors on validation": {
        "eval_substitutions": "substitutions",
        "eval_deletions": "deletions",
        "eval_insertions": "insertions",
    },
    "Words right on validation": {"eval_hits": "hits"},
    "Learning rate": {"learning_rate": "learning rate"},
    "Gradient norm": {"grad_norm": "gradient norm"},
}
RATES = ("eval_wer", "eval_cer", "eval_macro_f1")
COLOURS = {"Word errors on validation": (1, 3, 0), "Loss": (6, 0), "WER and CER on validation": (0, 2)}


def training_curves(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    """Return the curves of one run, or those of several in one chart each; nothing without a validation.

    Args:
        runs: The runs.
        names: Their names, in the same order.
    """
    trained = [(name, run) for name, run in zip(names, runs, strict=True) if run.epochs]
    if not trained:
        return Markup("")
    charts = [chart for title, keys in CHARTS.items() if (chart := _chart(title, keys, trained, len(runs) > 1))]
    return columns(charts) + _remark(trained, len(runs) > 1)


def _chart(title: str, keys: dict[str, str], trained: Sequence[tuple[str, Run]], several: bool) -> Markup:
    series = {}
    for name, run in trained:
        for key, label in keys.items():
            points = [(entry["epoch"], entry[key]) for entry in run.epochs if _is_number(entry.get(key))]
            if points:
                series[(f"{name}, {label}" if len(keys) > 1 else name) if several else label] = points
    if not series:
        return Markup("")
    write: Callable[[float], str] = per_cent if set(keys) & set(RATES) else _small if "learning_rate" in keys else plain
    colours = COLOURS.get(title, ()) if not several else ()
    return line_chart(
        series,
        title=title,
        x_label="epoch",
        format=write,
        zero="eval_hits" not in keys,
        colours=colours[: len(series)] if len(colours) >= len(series) else (),
    )


def _remark(trained: Sequence[tuple[str, Run]], several: bool) -> Markup:
    """Return when the best validation was."""
    best = []
    for name, run in trained:
        scored = [entry for entry in run.epochs if _is_number(entry.get("eval_wer"))]
        if scored:
            entry = min(scored, key=lambda entry: float(entry["eval_wer"]))
            start = f"{name}: lowest" if several else "Lowest"
            best.append(f"{start} validation WER {per_cent(entry['eval_wer'])} at epoch {entry['epoch']:.4g}.")
    return note(" ".join(best)) if best else Markup("")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _small(value: float) -> str:
    return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-") if value else "0"
