"""Sentence error rate as a metric of the ``evaluate`` library, loadable offline by this file's path."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from hf_asr.evaluation.counts import count_errors

_DESCRIPTION = """
Sentence error rate: the share of utterances with at least one word error, by the words that WER aligns. 0 is perfect.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of hypotheses, one text an utterance.
    references: list of references in the same order; single ones may be empty.
    normalizer: text pipeline that both sides go through first (default "none": they are compared as they are).
Returns:
    ser: the rate over the whole set, a fraction.
Examples:
    >>> ser = evaluate.load("hf_asr/evaluation/metrics/ser.py")
    >>> ser.compute(predictions=["the cat", "sat"], references=["the cat", "sat down"])
    {'ser': 0.5}
"""


class Ser(evaluate.Metric):
    """Sentence error rate: utterances with a word error over all utterances."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=["https://github.com/jitsi/jiwer"],
        )

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str], normalizer: str = "none"
    ) -> dict[str, float]:
        return {"ser": count_errors(references, predictions, normalizer=normalizer).ser()}
