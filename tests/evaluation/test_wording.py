"""What normalising hides, case and punctuation, numbers and names."""

from __future__ import annotations

import pytest

from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.texts import ScoredTexts
from hf_asr.evaluation.wording import compare_normalized, is_name, kind_of, names, numbers, writing


def scored(references: list[str], hypotheses: list[str], normalizer: str = "basic") -> ScoredTexts:
    return ScoredTexts(count_errors(references, hypotheses, normalizer=normalizer), references, hypotheses)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("Hello", "hello", "case"),
        ("hello,", "hello", "punctuation"),
        ("Hello,", "hello", "case_and_punctuation"),
        ("colour", "color", "other"),
        ("ß", "SS", "case"),
    ],
)
def test_kinds_of_spellings(one: str, other: str, kind: str) -> None:
    assert kind_of(one, other) == kind


def test_what_normalising_makes_equal() -> None:
    texts = scored(
        ["Hello, the Colour.", "um the colour", "The end"],
        ["hello the color", "the color", "the end"],
        "whisper_english",
    )
    found = compare_normalized(texts, texts.raw)
    assert (found["wer"], found["raw_wer"], found["normalizer"]) == (0.0, 5 / 8, "whisper_english")
    assert found["pairs"] == {"case": 1, "punctuation": 0, "case_and_punctuation": 1, "other": 2}
    assert found["removed_words"] == {"reference": 1, "hypothesis": 0}
    assert {(one["reference"], one["hypothesis"], one["count"], one["id"]) for one in found["differences"]} == {
        ("Hello,", "hello", 1, "0"),
        ("Colour.", "color", 1, "0"),
        ("colour", "color", 1, "1"),
        ("The", "the", 1, "2"),
    }


def test_words_that_stay_different_are_no_difference_of_spelling() -> None:
    texts = scored(["a b"], ["a c"])
    assert compare_normalized(texts, texts.raw)["differences"] == []


def test_case_and_punctuation() -> None:
    found = writing(scored(["Hello, Anna.", "It rains."], ["hello Anna.", "It rains!"]).raw)
    assert found["case"] == {"words": 4, "errors": 1, "rate": 0.25}
    punctuation = found["punctuation"]
    assert (punctuation["words"], punctuation["errors"], punctuation["rate"]) == (4, 2, 0.5)
    assert punctuation["marks"][:2] == [
        {"mark": ".", "reference": 2, "hypothesis": 1, "agreed": 1},
        {"mark": ",", "reference": 1, "hypothesis": 0, "agreed": 0},
    ]


@pytest.mark.parametrize(
    ("reference", "case", "punctuation"),
    [("hello there", False, False), ("HELLO THERE", False, False), ("Да нет", True, False), ("да, нет", False, True)],
)
def test_without_capitals_or_marks_nothing_is_said_of_them(reference: str, case: bool, punctuation: bool) -> None:
    found = writing(scored([reference], [reference.title()]).raw)
    assert (found["case"] is not None, found["punctuation"] is not None) == (case, punctuation)


def test_numbers() -> None:
    found = numbers(scored(["on May 5 at 12", "five", "in 1999"], ["on May 5 at 20", "five", "in"]))
    assert found is not None
    assert (found["words"], found["errors"], found["rate"], found["utterances"]) == (3, 2, 2 / 3, 2)
    assert found["examples"] == [
        {"reference": "12", "hypothesis": "20", "count": 1, "id": "0"},
        {"reference": "1999", "hypothesis": "", "count": 1, "id": "2"},
    ]
    assert numbers(scored(["five"], ["five"])) is None


@pytest.mark.parametrize(
    ("before", "word", "expected"),
    [
        ("met", "Anna", True),
        ("met", "Anna's", True),
        ("end.", "Then", False),
        ("said:", "Go", False),
        ("and", "I", False),
        ("and", "I'm", False),
        ("the", "cat", False),
        ("в", "Москве,", True),
        ("the", "“Times", False),
    ],
)
def test_what_counts_as_a_name(before: str, word: str, expected: bool) -> None:
    assert is_name(before, word) is expected


def test_names() -> None:
    references = ["I met Anna-Maria in Paris. She left", "SHOUTING ALL THE TIME", "nobody here"]
    found = names(scored(references, ["i met anna mary in paris she left", "shouting", "nobody here"]))
    assert found is not None
    assert (found["words"], found["errors"], found["utterances"], found["unmapped"]) == (3, 1, 1, 0)
    assert found["examples"] == [{"reference": "maria", "hypothesis": "mary", "count": 1, "id": "0"}]
    assert names(scored(["nobody"], ["nobody"])) is None


def test_an_utterance_that_is_not_normalised_word_by_word_is_counted() -> None:
    # The English normaliser writes the two words as one number.
    found = names(scored(["the Royal twenty one"], ["the royal 21"], "whisper_english"))
    assert found is not None
    assert (found["words"], found["unmapped"]) == (0, 1)
