"""Counts and rates: the same numbers as jiwer's, from one alignment an utterance."""

from __future__ import annotations

import subprocess
import sys

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.errors import UserError
from hf_asr.evaluation import counts as counts_module
from hf_asr.evaluation.counts import count_errors

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "cat", "да", "़"]), max_size=7).map(" ".join)
PAIRS = st.lists(st.tuples(WORDS | st.text(max_size=8), WORDS | st.text(max_size=8)), min_size=1, max_size=6).filter(
    lambda pairs: any(reference.strip() for reference, _ in pairs)
)


@settings(deadline=None, max_examples=300)
@given(PAIRS)
def test_equal_to_jiwer_on_the_same_strings(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    counts = count_errors(references, hypotheses, normalizer="none")
    words, characters = jiwer.process_words(references, hypotheses), jiwer.process_characters(references, hypotheses)
    assert (counts.wer(), counts.mer(), counts.wil()) == (words.wer, words.mer, words.wil)
    assert counts.cer() == characters.cer
    assert counts.words.sums() == (words.substitutions, words.deletions, words.insertions, words.hits)
    assert counts.totals()["num_words"] == sum(map(len, words.references))


@settings(deadline=None, max_examples=100)
@given(PAIRS)
def test_each_row_is_the_utterance_alone(pairs: list[tuple[str, str]]) -> None:
    counts = count_errors(*zip(*pairs, strict=True), normalizer="none")
    for row, pair in enumerate(pairs):
        alone = jiwer.process_words(*pair)
        assert (counts.substitutions[row], counts.deletions[row]) == (alone.substitutions, alone.deletions)
        assert (counts.insertions[row], counts.hits[row]) == (alone.insertions, alone.hits)


@pytest.mark.parametrize(
    ("references", "hypotheses", "sdih", "wer", "mer", "wil"),
    [
        (["a b c d"], ["a b c d"], (0, 0, 0, 4), 0.0, 0.0, 0.0),
        (["a b c d"], ["a x c"], (1, 1, 0, 2), 0.5, 0.5, 1 - (2 / 4) * (2 / 3)),
        (["a b"], ["x a y b z"], (0, 0, 3, 2), 1.5, 0.6, 1 - (2 / 2) * (2 / 5)),
        (["a b"], [""], (0, 2, 0, 0), 1.0, 1.0, 1.0),
        (["", "a"], ["x y", "a"], (0, 0, 2, 1), 2.0, 2 / 3, 1 - (1 / 1) * (1 / 3)),
        (["", "a"], ["", "a"], (0, 0, 0, 1), 0.0, 0.0, 0.0),
    ],
)
def test_rates_of_small_sets(
    references: list[str],
    hypotheses: list[str],
    sdih: tuple[int, int, int, int],
    wer: float,
    mer: float,
    wil: float,
) -> None:
    counts = count_errors(references, hypotheses)
    assert counts.words.sums() == sdih
    assert (counts.wer(), counts.mer(), counts.wil()) == (wer, mer, wil)


def test_wer_is_a_ratio_of_sums_and_no_mean_of_clips() -> None:
    counts = count_errors(["a", "a b c d e f g h i"], ["x", "a b c d e f g h i"])
    assert counts.wer() == 0.1


def test_the_normalizer_goes_over_both_sides_and_is_remembered() -> None:
    counts = count_errors(["It's COLOUR."], ["it's color"], normalizer="whisper_english", ids=["clip"])
    assert counts.wer() == 0.0
    assert (counts.ids, counts.normalizer) == (("clip",), "whisper_english")
    assert counts.reference_normalized == counts.hypothesis_normalized == ("it is color",)
    assert count_errors(["It's COLOUR."], ["it's color"], normalizer="none").wer() == 1.0


@pytest.mark.parametrize(
    ("references", "hypotheses", "options", "message"),
    [
        (["a"], ["a", "b"], {}, "found 1 references and 2 hypotheses"),
        (["a", "b"], ["a"], {}, "found 2 references and 1 hypotheses"),
        (["a"], ["a"], {"ids": ["x", "y"]}, "2 ids"),
        ([], [], {}, "found 0 references"),
        (["", ""], ["a", ""], {}, "2 references that are all empty after the normalizer basic"),
        (["...", "?!"], ["a", "b"], {}, "choose another normalizer"),
        (["a"], ["a"], {"normalizer": "whisper"}, "did you mean whisper_"),
    ],
)
def test_what_cannot_be_scored_is_told(
    references: list[str], hypotheses: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        count_errors(references, hypotheses, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [np.array([True, False, True]), np.array([0, 2])])
def test_subset_takes_rows_of_every_column(rows: np.ndarray) -> None:
    counts = count_errors(["a b", "c", "d"], ["a", "x", "d e"], ids=["1", "2", "3"]).subset(rows)
    assert counts.ids == ("1", "3")
    assert counts.reference_normalized == ("a b", "d")
    assert counts.totals() == {
        "substitutions": 0,
        "deletions": 1,
        "insertions": 1,
        "hits": 2,
        "num_utterances": 2,
        "num_words": 3,
        "num_empty_references": 0,
    }


@pytest.mark.parametrize("hypothesis", ["", "x y"])
def test_a_subset_without_reference_words_has_jiwers_rates(hypothesis: str) -> None:
    counts = count_errors(["", "a"], [hypothesis, "a"]).subset([0])
    alone = jiwer.process_words([""], [hypothesis])
    assert (counts.wer(), counts.mer(), counts.wil()) == (alone.wer, alone.mer, alone.wil)


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_batches_change_no_number(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "BATCH", batch)
    counts_module._align.cache_clear()
    counts = count_errors(["a b", "", "c d", "e", "f"], ["a", "x", "c d", "y", ""])
    assert counts.words.errors.tolist() == [1, 1, 0, 1, 1]
    assert counts.words.reference_length.tolist() == [2, 0, 2, 1, 1]
    assert counts.characters.errors.tolist() == [2, 1, 0, 1, 1]


def test_columns_that_metrics_share_cannot_be_changed() -> None:
    counts = count_errors(["a b"], ["a"])
    with pytest.raises(ValueError, match="read-only"):
        counts.hits[0] = 5


def test_jiwer_comes_without_evaluate_torch_and_transformers() -> None:
    code = (
        "import sys; from hf_asr.evaluation.counts import count_errors; count_errors(['a'], ['b']); "
        "assert not {'evaluate', 'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
