"""Word information lost as a metric of the ``evaluate`` library, loadable offline by this file's path."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from hf_asr.evaluation.counts import count_errors

_DESCRIPTION = """
Word information lost: 1 - (H / reference words) x (H / hypothesis words), summed over the whole set: an approximation
of the share of the references' information that the hypotheses do not carry, at most 1.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of hypotheses, one text an utterance.
    references: list of references in the same order; single ones may be empty.
    normalizer: text pipeline that both sides go through first (default "none": they are compared as they are).
Returns:
    wil: the rate over the whole set, a fraction.
Examples:
    >>> wil = evaluate.load("hf_asr/evaluation/metrics/wil.py")
    >>> wil.compute(predictions=["the cat sat"], references=["the cat sat down"])
    {'wil': 0.25}
"""

_CITATION = """
@inproceedings{morris2004,
    title = {From WER and RIL to MER and WIL: improved evaluation measures for connected speech recognition},
    author = {Morris, Andrew Cameron and Maier, Viktoria and Green, Phil},
    booktitle = {Interspeech},
    year = {2004}
}
"""


class Wil(evaluate.Metric):
    """Word information lost: one minus the information that hypothesis and reference share, at most 1."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=["https://github.com/jitsi/jiwer"],
        )

    def _compute(
        self, predictions: Sequence[str], references: Sequence[str], normalizer: str = "none"
    ) -> dict[str, float]:
        return {"wil": count_errors(references, predictions, normalizer=normalizer).wil()}
