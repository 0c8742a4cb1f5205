"""What is counted of a corpus, on splits small enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.html_elements import EVIL, Elements

from hf_asr.data import checks
from hf_asr.evaluation import corpus_facts as facts_module
from hf_asr.evaluation.corpus_facts import SplitTexts, corpus_facts
from hf_asr.evaluation.page_corpus import SampleClip, corpus_page

TRAIN = ["the cat sat", "the cat sat", "a dog barked loudly", ""]
TEST = ["the bird sat", "the bird flew"]


def split(name: str, texts: list[str], durations: list[float | None], **more: Any) -> SplitTexts:
    ids = [f"{name}{index}" for index in range(len(texts))]
    speakers = more.pop("speakers", ["s1"] * len(texts))
    return SplitTexts(name, ids, texts, [text.lower() for text in texts], speakers, durations, **more)


@pytest.fixture
def found() -> dict[str, Any]:
    train = split(
        "train", TRAIN, [1.0, 2.0, None, 4.0], speakers=["s1", "s2", "s2", ""], drops={"too_long": [("train9", "40 s")]}
    )
    return corpus_facts([train, split("test", TEST, [1.0, 1.5], leaks=["test: shares a speaker"])], "basic")


def test_sizes(found: dict[str, Any]) -> None:
    train = found["splits"]["train"]
    assert (train["utterances"], train["seconds"]) == (4, 7.0)
    assert train["durations"]["unknown"] == 1
    assert train["durations"]["median"] == 2.0
    assert sum(train["durations"]["histogram"]) == 3
    assert train["drops"] == {"too_long": {"clips": 1, "named": [["train9", "40 s"]]}}
    assert train["empty_texts"] == 1


def test_speakers(found: dict[str, Any]) -> None:
    speakers = found["splits"]["train"]["speakers"]
    assert (speakers["number"], speakers["unknown"]) == (2, 1)
    assert [entry["speaker"] for entry in speakers["most"]] == ["s2", "s1"]
    assert speakers["share_of_largest"] == pytest.approx(2 / 3)


def test_vocabulary_and_words_that_train_lacks(found: dict[str, Any]) -> None:
    train, test = found["splits"]["train"], found["splits"]["test"]
    assert (train["words"], train["vocabulary"], train["words_once"]) == (10, 7, 4)
    assert train["out_of_vocabulary"] is None
    missing = test["out_of_vocabulary"]
    assert (missing["types"], missing["tokens"]) == (2, 3)
    assert missing["token_rate"] == pytest.approx(3 / 6)
    assert missing["most"][0] == {"word": "bird", "count": 2}


def test_sentences_said_twice(found: dict[str, Any]) -> None:
    twice = found["splits"]["train"]["duplicates"]
    assert (twice["sentences"], twice["utterances"], twice["share"]) == (1, 2, 0.5)
    assert found["leaks"] == ["test: shares a speaker"]


def test_a_text_that_does_not_fit_its_clip_is_listed() -> None:
    texts = ["ten letters"] * 20 + ["far too many letters for one second of speech " * 3, "x"]
    pace = corpus_facts([split("train", texts, [1.0] * 21 + [2.0])], "none")["splits"]["train"]["characters_per_second"]
    assert pace["median"] == 11.0
    assert [entry["id"] for entry in pace["fast"]] == ["train20"]
    assert [entry["id"] for entry in pace["slow"]] == ["train21"]


def test_the_limits_are_those_of_the_doctor() -> None:
    assert facts_module.MAX_CHARACTERS_PER_SECOND == checks.MAX_CHARACTERS_PER_SECOND
    assert facts_module.TIMES_MEDIAN == checks.MAX_TIMES_MEDIAN


@pytest.mark.parametrize(
    "texts", [[], ["", ""], ["a"], ["a", "b"]], ids=["no clip", "no text", "one clip", "no durations"]
)
def test_nearly_nothing_is_no_fault(texts: list[str]) -> None:
    found = corpus_facts([split("train", texts, [None] * len(texts)), split("test", ["b"], [0.0])], "none")
    json.dumps(found, allow_nan=False)
    assert "<h2>Splits</h2>" in corpus_page(found, [], name="a corpus", subtitle="")


def test_nothing_on_the_page_is_read_as_html() -> None:
    tags = []
    for text in ("harmless", EVIL):
        texts = [f"{text} one", f"{text} one", text * 50]
        train = split(
            "train", texts, [1.0, 1.0, 0.5], speakers=[text] * 3, labels=[text] * 3, drops={text: [(text, text)]}
        )
        test = split("test", [f"unseen{text}"], [1.0], leaks=[text])
        clips = [SampleClip("train", text, text, b"png", b"ogg", text)]
        page = corpus_page(corpus_facts([train, test], "none"), clips, name=text, subtitle=text, remark=text)
        tags.append({tag for tag, _ in Elements(page).found})
    assert tags[0] == tags[1]


def test_inspect_json_can_be_read_again(found: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "inspect.json").write_text(json.dumps(found, allow_nan=False))
    assert json.loads((tmp_path / "inspect.json").read_text()) == found
