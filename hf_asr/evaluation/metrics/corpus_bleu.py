"""BLEU by sacrebleu, with its signature; free of ``evaluate``, so that ``hf-asr score`` starts fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import sacrebleu

from hf_asr.data.scripts import count_scripts
from hf_asr.evaluation.workers import in_blocks

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
# Enough texts to know a script by.
SEEN_TEXTS = 1000

Counted = tuple[list[int], list[int], int, int]


class Bleu(NamedTuple):
    """BLEU of a set.

    Attributes:
        score: 0 to 100, as sacrebleu has it.
        signature: Everything that decides the number: tokeniser, smoothing, case, version.
    """

    score: float
    signature: str


def corpus_bleu(references: Sequence[str], hypotheses: Sequence[str], tokenize: str = "auto") -> Bleu:
    """Return BLEU of a set with one reference an utterance.

    N-grams are counted in several processes where there are many utterances; the score is of their sums, so it is
    sacrebleu's own.

    Args:
        references: What was said.
        hypotheses: What was recognised, in the same order.
        tokenize: sacrebleu's tokeniser; ``auto`` is ``13a``, and ``char`` for scripts written without spaces.
    """
    tokenize = tokenizer_for(references) if tokenize == "auto" else tokenize
    metric = sacrebleu.BLEU(tokenize=tokenize)
    parts = in_blocks(count_ngrams, references, hypotheses, [tokenize] * len(references))
    correct, total = (np.sum([part[place] for part in parts], axis=0).tolist() for place in (0, 1))
    written, said = (sum(part[place] for part in parts) for place in (2, 3))
    score = metric.compute_bleu(correct, total, written, said, smooth_method="exp", effective_order=False)
    # The signature names the number of references, which sacrebleu learns from a set.
    metric.corpus_score(["a"], [["a"]])
    return Bleu(float(score.score), str(metric.get_signature()))


def tokenizer_for(references: Sequence[str]) -> str:
    """Return ``char`` where most letters are of a script that is written without spaces, else ``13a``."""
    letters = count_scripts("".join(references[:SEEN_TEXTS]))
    return "char" if 2 * sum(letters[script] for script in UNSPACED) > letters.total() else "13a"


def count_ngrams(references: Sequence[str], hypotheses: Sequence[str], tokenize: Sequence[str]) -> Counted:
    """Return what BLEU is made of: n-grams found, n-grams written, and the lengths of both sides."""
    found = sacrebleu.BLEU(tokenize=tokenize[0]).corpus_score(list(hypotheses), [list(references)])
    return list(found.counts), list(found.totals), int(found.sys_len), int(found.ref_len)
