"""The metrics that ``evaluation.metrics`` may name: one ``evaluate.Metric`` class a file, readers of one alignment.

To add one: write ``NAME.py`` beside the others with a class of :class:`evaluate.Metric` (``import evaluate`` on its
own line, never ``from evaluate import Metric``: its loader takes the first Metric class it finds in the file), return
a dictionary from ``_compute``, name the file in :data:`METRICS`, and add its row to the test table. Importing this
package loads neither ``evaluate`` nor torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError

_HERE = Path(__file__).parent

METRICS: dict[str, Path] = {
    "wer": _HERE / "wer.py",
    "cer": _HERE / "cer.py",
    "mer": _HERE / "mer.py",
    "wil": _HERE / "wil.py",
    "ser": _HERE / "ser.py",
    "bleu": _HERE / "bleu.py",
}

# What the detailed analysis tells, as metrics of their own. They may be None, and read texts that are not normalised
# yet, so that evaluation.metrics does not name them.
ABOUT_WORDING: dict[str, Path] = {
    "case_error_rate": _HERE / "case_error_rate.py",
    "punctuation_error_rate": _HERE / "punctuation_error_rate.py",
    "number_error_rate": _HERE / "number_error_rate.py",
    "name_error_rate": _HERE / "name_error_rate.py",
}


def compute_metrics(names: Iterable[str], references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    """Compute metrics by name over texts that are normalised already.

    Args:
        names: Keys of :data:`METRICS`.
        references: Normalised references.
        hypotheses: Normalised hypotheses, in the same order.

    Returns:
        What each metric returns, joined.

    Raises:
        UserError: A name is unknown, or the texts cannot be scored (see ``count_errors``).
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in METRICS]
    if unknown:
        raise UserError(
            f"evaluation.metrics: expected names out of {', '.join(METRICS)}, found {', '.join(map(repr, unknown))}"
        )
    results: dict[str, Any] = {}
    for name in wanted:
        results |= _compute(name, references, hypotheses)
    return results


def _compute(name: str, references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    from evaluate.loading import import_main_class

    metric_class = import_main_class(f"{__name__}.{METRICS[name].stem}")
    # In memory and with a folder of its own: evaluate otherwise makes one under HOME, which may be read-only.
    with tempfile.TemporaryDirectory() as folder:
        metric = metric_class(keep_in_memory=True, cache_dir=folder)
        result: dict[str, Any] = metric.compute(predictions=list(hypotheses), references=list(references))
    return result
