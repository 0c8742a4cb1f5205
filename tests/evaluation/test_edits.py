"""Where both sides differ: equal to jiwer on every script, and readable back."""

from __future__ import annotations

import unicodedata

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.evaluation.counts import count_errors, split_characters, split_words
from hf_asr.evaluation.edits import EditTable

# Letters, marks, digits and signs of many scripts, spaces of several kinds, joiners, tabs.
ALPHABET = st.sampled_from(
    [*"abAB 1٣२ \t\u00a0\u2009'-.،。", *"ЁйßİıمிกḌ่中文が한ᄒ🙂\u200d", "e\u0301", "क्ष", "ش\u0651", "שׁ", "か\u3099"]
)
TEXT = st.lists(ALPHABET, max_size=14).map("".join)
SETS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5).filter(
    lambda pairs: any(one.strip() for one, _ in pairs)
)


@settings(max_examples=200)
@given(SETS)
def test_counts_equal_jiwers_on_any_script(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = (list(side) for side in zip(*pairs, strict=True))
    counts = count_errors(references, hypotheses, normalizer="none")
    words, characters = jiwer.process_words(references, hypotheses), jiwer.process_characters(references, hypotheses)
    assert counts.words.sums() == (words.substitutions, words.deletions, words.insertions, words.hits)
    assert counts.wer() == words.wer
    assert counts.cer() == characters.cer
    assert counts.mer() == words.mer
    assert counts.wil() == pytest.approx(words.wil, abs=1e-12)


@settings(max_examples=100)
@given(SETS)
def test_the_normalised_score_equals_jiwer_on_what_it_says_it_aligned(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = (list(side) for side in zip(*pairs, strict=True))
    if not any(unicodedata.category(char)[0] in "LN" for text in references for char in text):
        return
    counts = count_errors(references, hypotheses, normalizer="basic")
    both = list(counts.reference_normalized), list(counts.hypothesis_normalized)
    assert (counts.wer(), counts.cer()) == (jiwer.wer(*both), jiwer.cer(*both))


@settings(max_examples=100)
@given(SETS)
def test_an_alignment_holds_both_texts(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = (list(side) for side in zip(*pairs, strict=True))
    counts = count_errors(references, hypotheses, normalizer="none")
    for row, (reference, hypothesis) in enumerate(pairs):
        alignment = counts.alignment(row)
        assert [word for _, one, _ in alignment if one is not None for word in one.split(" ")] == split_words(
            [reference]
        )[0]
        assert [word for _, _, one in alignment if one is not None for word in one.split(" ")] == split_words(
            [hypothesis]
        )[0]
        wrong = [kind for kind, _, _ in alignment if kind != "="]
        assert len(wrong) == counts.words.errors[row]
        spelt = counts.alignment(row, characters=True)
        assert "".join(one for _, one, _ in spelt if one) == "".join(split_characters([reference])[0])
        assert "".join(one for _, _, one in spelt if one) == "".join(split_characters([hypothesis])[0])


def test_an_alignment_by_words() -> None:
    counts = count_errors(["the cat sat on the mat"], ["a the cat sits on mat"], normalizer="none")
    assert counts.alignment(0) == [
        ("I", None, "a"),
        ("=", "the cat", "the cat"),
        ("S", "sat", "sits"),
        ("=", "on", "on"),
        ("D", "the", None),
        ("=", "mat", "mat"),
    ]


@pytest.mark.parametrize("rows", [[2, 0], [1], [], [0, 1, 2], [2, 2]])
def test_a_subset_takes_its_stretches_along(rows: list[int]) -> None:
    counts = count_errors(["a b c", "d e", "f g h"], ["a x", "d e", "f g h i"], ids=["one", "two", "three"])
    part = counts.subset(rows)
    assert [part.alignment(place) for place in range(len(rows))] == [counts.alignment(row) for row in rows]
    again = part.word_edits.counts(part.words.reference_length)
    assert again.sums() == part.words.sums()
    assert np.array_equal(again.hits, part.words.hits)


def test_a_table_without_stretches() -> None:
    table = EditTable.of([])
    assert (len(table), table.counts(np.array([2, 3])).sums()) == (0, (0, 0, 0, 5))


def test_a_text_with_tabs_is_split_as_jiwer_splits_it() -> None:
    references, hypotheses = ["a\tb c"], ["a b c"]
    assert count_errors(references, hypotheses, normalizer="none").wer() == jiwer.wer(references, hypotheses)
    assert count_errors(references, hypotheses, normalizer="basic").wer() == 0
