"""Corpora for classifiers: labels in place of texts, and listed speakers on each side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_corpus import tone

from hf_asr.config.arguments import DataArguments
from hf_asr.config.checks import check_held_out
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.corpora import build_splits
from hf_asr.data.held_out import HeldOut, held_out_of
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Utterance


def make_corpus(folder: Path, labels: list[str]) -> DataArguments:
    """Write a clip a label, of speakers 00, 01 and 02 in turn; no text."""
    folder.mkdir(exist_ok=True)
    lines = ["path,emotion,speaker"]
    for index, label in enumerate(labels):
        (folder / f"{index}.wav").write_bytes(encode(tone(index, 0.5), SAMPLE_RATE, "wav"))
        lines.append(f"{index}.wav,{label},0{index % 3}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return DataArguments(corpus="manifest", path=str(folder / "manifest.csv"), columns={"label": "emotion"})


def test_texts_may_be_missing_where_labels_are_given(tmp_path: Path) -> None:
    data = make_corpus(tmp_path, ["sad", "", "calm", "sad", "calm", "calm"])
    data.splits = {"held_out": {"validation": ["01"], "test": ["02"]}}
    splits = build_splits(data, seed=0)
    assert {name: split.rows["label"] for name, split in splits.items()} == {
        "train": ["sad", "sad"],
        "validation": ["calm"],
        "test": ["calm", "calm"],
    }
    assert splits["validation"].drops.to_dict() == {"no_label": [["1.wav", "column emotion is empty"]]}


@pytest.mark.parametrize(("speaker", "side"), [("03", "test"), ("09", "validation"), ("10", "train"), ("", "train")])
def test_listed_speakers_stand_where_they_are_listed(speaker: str, side: str) -> None:
    held_out = held_out_of({"held_out": {"test": ["03", "08"], "validation": ["09"]}})
    assert held_out.divides
    assert held_out.side(Utterance("x", AudioRef(), "", speaker=speaker)) == side


def test_a_list_and_a_share_go_together() -> None:
    held_out = held_out_of({"held_out": {"test": ["03"], "validation": 0.5}})
    assert (held_out.share("test"), held_out.share("validation"), held_out.named) == (1.0, 0.5, (("03", "test"),))
    assert held_out_of({"held_out": {"test": ["03"], "validation": 0.5}, "test": "x"}).named == ()
    assert not HeldOut(validation=0.0).divides


def test_a_speaker_stands_on_one_side() -> None:
    with pytest.raises(UserError, match="expected each speaker on one side"):
        held_out_of({"held_out": {"test": ["03"], "validation": ["03"]}})


@pytest.mark.parametrize(
    ("value", "problems"),
    [({"test": ["03", "08"]}, 0), ({"test": ["03"], "validation": 0.1}, 0), ({"test": [3]}, 1), ({"test": []}, 1)],
)
def test_lists_hold_quoted_texts(value: dict[str, Any], problems: int) -> None:
    assert len(list(check_held_out("data.splits.held_out", value))) == problems


def test_speakers_that_are_not_there(tmp_path: Path) -> None:
    data = make_corpus(tmp_path, ["sad", "calm"])
    data.splits = {"held_out": {"test": ["99"], "validation": 0}}
    with pytest.raises(UserError, match=r"Listed speakers are 99; quote numbers with leading zeros"):
        build_splits(data, seed=0, names=["test"])
