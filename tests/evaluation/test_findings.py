"""Kinds of failure, and the confusions and edges of a set."""

from __future__ import annotations

import pytest

from hf_asr.evaluation.confusions import confusions, edges, joined, worst_utterances
from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.findings import compression_ratio, findings, longest_loop
from hf_asr.evaluation.texts import ScoredTexts


def scored(*pairs: tuple[str, str]) -> ScoredTexts:
    references, hypotheses = (list(side) for side in zip(*pairs, strict=True))
    return ScoredTexts(count_errors(references, hypotheses), references, hypotheses)


def found(*pairs: tuple[str, str]) -> dict[str, list[str]]:
    """Return the details of each kind that is there."""
    kinds = findings(scored(*pairs))
    return {name: [one["detail"] for one in kind["examples"]] for name, kind in kinds.items() if kind["utterances"]}


@pytest.mark.parametrize(
    ("words", "repeats", "stretch"),
    [
        ("a b c", 1, ""),
        ("no no", 1, ""),
        ("no no no", 3, "no"),
        ("a b a b a b c", 3, "a b"),
        ("x the end of the end of the end of it", 3, "the end of"),
        ("", 1, ""),
    ],
)
def test_the_longest_loop(words: str, repeats: int, stretch: str) -> None:
    assert longest_loop(words.split()) == (repeats, stretch)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "kinds"),
    [
        ("thank you very much", "thank you very much", {}),
        ("thank you", "thank you thank you thank you", {"loops": ["“thank you” 3 times"]}),
        ("no no no he said", "no no no she said", {}),
        ("我们今天", "我们我们我们我们我们我们我们", {"loops": ["“我们” 7 times"]}),
        ("привет всем", "privet vsem", {"other_script": ["Latin"]}),
        ("он купил iphone", "он купил iphones", {}),
        ("one two three four five six", "one two three", {"truncated": ["the last 3 of 6 words are missing"]}),
        ("one two three four five six", "x y z", {}),
        ("one two three", "", {"empty": ["3 words"]}),
        ("one two three four five six seven eight nine ten", "one two three four five six seven eight", {}),
    ],
)
def test_kinds_of_failure(reference: str, hypothesis: str, kinds: dict[str, list[str]]) -> None:
    assert found((reference, hypothesis)) == kinds


def test_words_on_silence() -> None:
    assert found(("", "thanks for watching"), ("a", "a")) == {"words_on_silence": ["3 words"]}


def test_unknown_words_need_a_vocabulary() -> None:
    strange = ("one two three", "ein zwei drei")
    assert "unknown_words" not in found(strange)
    known = [("one two three four", "one two three four")] * 60
    assert found(strange, *known) == {"unknown_words": ["3 of 3 words are in no reference"]}


def test_a_long_text_that_repeats_itself_loosely_is_caught_by_its_compression() -> None:
    phrase = "and then we went to the market to buy some bread "
    text = " ".join(f"{phrase}{number}" for number in ("one", "two", "six", "ten", "one", "two", "six", "ten"))
    assert compression_ratio(text) > 2.4
    assert found(("we went to the market", text))["loops"][0].startswith("compression ratio")


def test_a_kind_is_counted_with_its_words() -> None:
    kinds = findings(scored(("a b c d", "a b c d"), ("a b c", ""), ("d e", "")))
    assert (kinds["empty"]["utterances"], kinds["empty"]["words"], kinds["empty"]["share"]) == (2, 5, 2 / 3)
    assert [one["id"] for one in kinds["empty"]["examples"]] == ["1", "2"]


def test_confusions_with_counts_and_examples() -> None:
    found = confusions(
        scored(("the cat sat", "a cat sat"), ("see the dog", "see a dog"), ("oh", "oh well"), ("b the", "b"))
    )
    words = found["words"]
    assert [(one["reference"], one["hypothesis"], one["count"]) for one in words["substitutions"]] == [("the", "a", 2)]
    assert words["substitutions"][0]["examples"] == [
        {"id": "0", "reference": "the cat sat", "hypothesis": "a cat sat"},
        {"id": "1", "reference": "see the dog", "hypothesis": "see a dog"},
    ]
    assert [(one["reference"], one["count"]) for one in words["deletions"]] == [("the", 1)]
    assert [(one["hypothesis"], one["count"]) for one in words["insertions"]] == [("well", 1)]
    spaces = [one for one in found["characters"]["deletions"] if one["reference"] == "␣"]
    assert spaces[0]["count"] == 1


def test_examples_are_cut_around_the_place() -> None:
    long = " ".join(f"w{number}" for number in range(30))
    (one,) = confusions(scored((long, long.replace("w15", "x"))))["words"]["substitutions"]
    assert one["examples"][0]["reference"] == "… w11 w12 w13 w14 w15 w16 w17 w18 w19 …"


def test_edges() -> None:
    found = edges(scored(("a b c", "x b c"), ("a b c", "b c"), ("a b c", "a b c y"), ("a b c", "a b"), ("a b", "a b")))
    assert found["first"] == {"deletions": 1, "insertions": 0, "substitutions": 1, "utterances": 2}
    assert found["last"] == {"deletions": 1, "insertions": 1, "substitutions": 0, "utterances": 2}


def test_the_worst_utterances_come_with_their_alignments() -> None:
    texts = scored(("a b", "a b"), ("a b c", "a x"), ("a b", "a y"))
    first, second = worst_utterances(texts, [1.0, 2.0, None], ["s", "t", ""], False, 5)
    assert (first["id"], first["errors"], first["words"], first["speaker"]) == ("1", 2, 3, "t")
    assert (first["duration"], second["duration"]) == (2.0, None)
    assert second["alignment"] == [("=", "a", "a"), ("S", "b", "y")]
    assert len(worst_utterances(texts, [1.0] * 3, [""] * 3, False, 1)) == 1


def test_wrong_characters_stand_together() -> None:
    assert joined([("=", "a", "a"), ("S", "b", "x"), ("S", "c", "y"), ("I", None, "z"), ("I", None, "w")]) == [
        ("=", "a", "a"),
        ("S", "bc", "xy"),
        ("I", None, "zw"),
    ]
