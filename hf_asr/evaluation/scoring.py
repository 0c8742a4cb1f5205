"""Which scores a family's hypotheses get, by what they are: words, classes or numbers."""

from __future__ import annotations

from collections.abc import Sequence

from hf_asr.evaluation.classes import class_scores, number_scores
from hf_asr.evaluation.counts import count_errors

# Column of a corpus row that hypotheses are compared with.
REFERENCE = {"words": "text", "classes": "label", "numbers": "label"}
# What the best checkpoint is chosen by unless training.metric_for_best_model says otherwise.
BEST_METRIC = {"words": "wer", "classes": "macro_f1", "numbers": "rmse"}
EDITS = ("substitutions", "deletions", "insertions", "hits")


def validation_scores(
    scoring: str, references: Sequence[str], hypotheses: Sequence[str], normalizer: str
) -> dict[str, float]:
    """Return what training logs after each validation.

    Args:
        scoring: ``words``, ``classes`` or ``numbers``.
        references: What each clip says or is.
        hypotheses: What the model wrote of it.
        normalizer: Text pipeline of words.
    """
    if scoring == "classes":
        return class_scores(references, hypotheses)
    if scoring == "numbers":
        return number_scores(references, hypotheses)
    counts = count_errors(references, hypotheses, normalizer=normalizer)
    rates = {"wer": counts.wer(), "cer": counts.cer(), "mer": counts.mer(), "wil": counts.wil()}
    totals = counts.totals()
    return rates | {name: totals[name] for name in EDITS if name in totals}
