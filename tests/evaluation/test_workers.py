"""Work shared out to processes: the same result, in the same order."""

from __future__ import annotations

import os
import random
import subprocess

import numpy as np
import pytest

from hf_asr.evaluation import workers
from hf_asr.evaluation.counts import align_block, count_errors
from hf_asr.evaluation.metrics.corpus_bleu import corpus_bleu


def texts(number: int, seed: int) -> list[str]:
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(("да", "no", "中", "si", "oui"), k=chosen.randint(1, 9))) for _ in range(number)]


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share out ten rows and more to two processes, whatever this machine has."""
    monkeypatch.setattr(workers, "WORTH_A_PROCESS", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.mark.usefixtures("two_processes")
def test_two_processes_count_what_one_does() -> None:
    references, hypotheses = texts(31, 0), texts(31, 1)
    shared = count_errors(references, hypotheses)
    (alone,) = [align_block(shared.reference_normalized, shared.hypothesis_normalized)]
    for (table, lengths), counted, own in zip(
        alone, (shared.words, shared.characters), (shared.word_edits, shared.character_edits), strict=True
    ):
        assert np.array_equal(lengths, counted.reference_length)
        assert all(np.array_equal(one, other) for one, other in zip(table.columns(), own.columns(), strict=True))


@pytest.mark.usefixtures("two_processes")
def test_two_processes_give_the_same_bleu(monkeypatch: pytest.MonkeyPatch) -> None:
    references, hypotheses = texts(25, 2), texts(25, 3)
    shared = corpus_bleu(references, hypotheses)
    monkeypatch.setattr(workers, "WORTH_A_PROCESS", 1000)
    assert corpus_bleu(references, hypotheses) == shared


@pytest.mark.usefixtures("two_processes")
def test_a_process_that_fails_is_not_passed_over() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        workers.in_blocks(align_block, ["a"] * 20, [None] * 20)


def test_few_rows_stay_here() -> None:
    assert len(workers.in_blocks(align_block, ["a"], ["a"])) == 1
