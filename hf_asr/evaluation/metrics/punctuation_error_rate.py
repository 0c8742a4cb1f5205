"""Punctuation error rate as a metric of the ``evaluate`` library, loadable offline by this file's path."""

from __future__ import annotations

from collections.abc import Sequence

import evaluate

from hf_asr.evaluation.metrics.description import describe
from hf_asr.evaluation.texts import score_texts
from hf_asr.evaluation.wording import writing

_DESCRIPTION = """
Share of the words recognised, case and punctuation put aside, whose punctuation is wrong. None where no
reference has any: the normaliser keeps none, or nobody wrote any.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of hypotheses, one text an utterance.
    references: list of references in the same order; single ones may be empty.
    normalizer: text pipeline that both sides go through first (default "none": they are compared as they are).
Returns:
    punctuation_error_rate: the rate over the whole set, a fraction, or None.
Examples:
    >>> metric = evaluate.load("hf_asr/evaluation/metrics/punctuation_error_rate.py")
    >>> metric.compute(predictions=["hello, anna", "it rains!"], references=["hello, anna.", "it rains."])
    {'punctuation_error_rate': 0.5}
"""


class PunctuationErrorRate(evaluate.Metric):
    """Punctuation error rate of a set."""

    def _info(self) -> evaluate.MetricInfo:
        return describe(_DESCRIPTION, _KWARGS_DESCRIPTION)

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str], normalizer: str = "none"
    ) -> dict[str, float | None]:
        texts = score_texts(references, predictions, normalizer)
        found = writing(texts)["punctuation"]
        return {"punctuation_error_rate": None if found is None else found["rate"]}
