"""Number error rate as a metric of the ``evaluate`` library, loadable offline by this file's path."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from hf_asr.evaluation.metrics.description import describe
from hf_asr.evaluation.texts import score_texts
from hf_asr.evaluation.wording import numbers

_DESCRIPTION = """
Share of the references' words with a digit that were substituted or left out. None where there are none.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of hypotheses, one text an utterance.
    references: list of references in the same order; single ones may be empty.
    normalizer: text pipeline that both sides go through first (default "none": they are compared as they are).
Returns:
    number_error_rate: the rate over the whole set, a fraction, or None.
Examples:
    >>> metric = evaluate.load("hf_asr/evaluation/metrics/number_error_rate.py")
    >>> metric.compute(predictions=["on May 5 at 20"], references=["on May 5 at 12"])
    {'number_error_rate': 0.5}
"""


class NumberErrorRate(evaluate.Metric):
    """Number error rate of a set."""

    def _info(self) -> evaluate.MetricInfo:
        return describe(_DESCRIPTION, _KWARGS_DESCRIPTION)

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str], normalizer: str = "none"
    ) -> dict[str, float | None]:
        texts = score_texts(references, predictions, normalizer)
        found = numbers(texts)
        return {"number_error_rate": None if found is None else found["rate"]}
