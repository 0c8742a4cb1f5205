"""How runs were made, and every score of them in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup

from hf_asr.evaluation.page import details, facts, table
from hf_asr.evaluation.page_run import Run, Scored
from hf_asr.evaluation.page_scale import per_cent, plain, without_place

# Name of a column, to a results' key and how it is written; a column nobody has is left out.
SCORES: dict[str, str] = {
    "WER": "wer",
    "CER": "cer",
    "MER": "mer",
    "WIL": "wil",
    "SER": "ser",
    "BLEU": "bleu",
    "accuracy": "accuracy",
    "macro F1": "macro_f1",
    "RMSE": "rmse",
    "R2": "r2",
    "substitutions": "substitutions",
    "deletions": "deletions",
    "insertions": "insertions",
    "hits": "hits",
    "RTFx": "rtfx",
}
FRACTIONS = ("wer", "cer", "mer", "wil", "ser", "accuracy", "macro_f1")
SETTINGS = (
    ("Base model", "model", "name_or_path"),
    ("Corpus", "data", "corpus"),
    ("Language", "data", "language"),
    ("Adapters", "peft", "method"),
    ("Learning rate", "training", "learning_rate"),
    ("Epochs", "training", "num_train_epochs"),
    ("Most steps", "training", "max_steps"),
    ("Clips a batch", "training", "per_device_train_batch_size"),
    ("Seed", "experiment", "seed"),
)
CONDITIONS = (
    ("Normalizer", "normalizer"),
    ("Window", "window"),
    ("Type of numbers", "dtype"),
    ("Clips decoded at once", "batch_size"),
    ("Generation", "generation"),
)


def scores_table(runs: Sequence[Run]) -> Markup:
    """Return every score of every run, before and after, a row each."""
    rows = [
        (f"{run.name}, {scored.name}" if len(runs) > 1 else scored.name, scored)
        for run in runs
        for scored in (run.before, run.after)
        if scored is not None
    ]
    shown = [name for name, key in SCORES.items() if any(scored.results.get(key) is not None for _, scored in rows)]
    cells = [[label, *(_score(scored, SCORES[name]) for name in shown)] for label, scored in rows]
    return table(["", *shown], cells, numbers=range(1, len(shown) + 1), sortable=len(rows) > 2)


def setup_facts(run: Run) -> Markup:
    """Return the settings that matter most, and the whole configuration folded."""
    pairs: list[tuple[str, Any]] = [("Run", run.name)]
    pairs += [(name, run.setting(section, key)) for name, section, key in SETTINGS]
    pairs += [(name, run.after.results.get(key)) for name, key in CONDITIONS]
    packages = run.environment.get("packages") or {}
    pairs.append(("Device", run.environment.get("device")))
    pairs.append(("Versions", ", ".join(f"{name} {packages[name]}" for name in packages)))
    known = facts([(name, _written(value)) for name, value in pairs if value not in (None, "", {}, "none")])
    if not run.config:
        return known
    text = yaml.safe_dump(_without_places(run.config), allow_unicode=True, sort_keys=False)
    return known + details("The whole configuration", Markup("<pre>{}</pre>").format(text))


def left_out(run: Run) -> Markup:
    """Return which test clips were skipped and why; nothing when none was."""
    skipped = run.after.results.get("skipped") or {}
    if not skipped:
        return Markup("")
    items = run.after.results.get("skipped_items") or {}
    rows = [
        (reason.replace("_", " "), number, ", ".join(without_place(str(item[0])) for item in items.get(reason, [])[:5]))
        for reason, number in skipped.items()
    ]
    return table(("left out of the test set", "clips", "such as"), rows, numbers=[1])


def _score(scored: Scored, key: str) -> Any:
    value = scored.results.get(key)
    if value is None:
        return None
    return per_cent(value) if key in FRACTIONS else plain(value)


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    return str(value)


def _without_places(value: Any) -> Any:
    """Return the configuration with local paths cut to their last part: a page is passed on."""
    if isinstance(value, Mapping):
        return {key: _without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_places(item) for item in value]
    return without_place(value) if isinstance(value, str) else value
