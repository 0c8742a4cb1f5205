"""BLEU as a metric of the ``evaluate`` library, loadable offline by this file's path."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from hf_asr.evaluation.counts import check_texts
from hf_asr.evaluation.metrics.corpus_bleu import corpus_bleu
from hf_asr.text import get_pipeline

_DESCRIPTION = """
BLEU over a set with one reference an utterance, by sacrebleu, on its scale of 0 to 100. The signature says everything
that decides the number and belongs beside it.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of hypotheses, one text an utterance.
    references: list of references in the same order; single ones may be empty.
    normalizer: text pipeline that both sides go through first (default "none": they are compared as they are).
    tokenize: sacrebleu's tokeniser (default "auto": "13a", and "char" for scripts written without spaces).
Returns:
    bleu: the score, 0 to 100.
    bleu_signature: sacrebleu's signature.
Examples:
    >>> bleu = evaluate.load("hf_asr/evaluation/metrics/bleu.py")
    >>> bleu.compute(predictions=["the cat sat on the mat"], references=["the cat sat on the mat"])["bleu"]
    100.00000000000004
"""

_CITATION = """
@inproceedings{post2018,
    title = {A Call for Clarity in Reporting BLEU Scores},
    author = {Post, Matt},
    booktitle = {Proceedings of the Third Conference on Machine Translation},
    year = {2018}
}
"""


class Bleu(evaluate.Metric):
    """BLEU of a set, with sacrebleu's signature."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
            reference_urls=["https://github.com/mjpost/sacrebleu"],
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        normalizer: str = "none",
        tokenize: str = "auto",
    ) -> dict[str, float | str]:
        pipeline = get_pipeline(normalizer)
        said, heard = list(map(pipeline, references)), list(map(pipeline, predictions))
        check_texts(said, normalizer)
        found = corpus_bleu(said, heard, tokenize)
        return {"bleu": found.score, "bleu_signature": found.signature}
