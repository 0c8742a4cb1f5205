"""Manifests that ended in a traceback, took a wrong stretch of a file, or led into another split's folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_corpus import make_tiny_corpus, tone

from hf_asr.config.arguments import DataArguments
from hf_asr.data import gigaspeech, manifest
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.errors import UserError
from hf_asr.utterance import Drops


def test_brackets_without_an_end_cost_their_line(tmp_path: Path) -> None:
    make_tiny_corpus(tmp_path, train=1, validation=0, test=0)
    good = json.dumps({"path": "clip0.wav", "text": "one"})
    (tmp_path / "odd.jsonl").write_text("\n".join([good, "[" * 100_000]))
    drops = Drops()
    found = list(manifest.read(DataArguments("manifest", str(tmp_path / "odd.jsonl")), "train", drops))
    assert [utterance.text for utterance in found] == ["one"]
    assert drops.counts() == {"bad_row": 1}


def test_line_ends_of_an_old_mac_are_told(tmp_path: Path) -> None:
    path = make_tiny_corpus(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    with pytest.raises(UserError, match=r"lines that end in CR alone; expected LF or CRLF"):
        list(manifest.read(DataArguments("manifest", str(path)), "train", Drops()))


@pytest.mark.parametrize(("offset", "start"), [(0, 0.0), ("", 0.0), ("0.25", 0.25), (0.5, 0.5)])
def test_an_offset_is_where_a_segment_begins(tmp_path: Path, offset: object, start: float) -> None:
    [found] = read_segment(tmp_path, offset, Drops())
    assert (found.audio.start, found.audio.end) == (start, start + 0.4)


@pytest.mark.parametrize("offset", [-1, "x", float("nan"), float("inf"), [1]])
def test_what_is_no_offset_is_not_taken_for_the_beginning(tmp_path: Path, offset: object) -> None:
    drops = Drops()
    assert read_segment(tmp_path, offset, drops) == []
    assert drops.counts() == {"bad_row": 1} and repr(offset) in next(drops.lines())


def read_segment(folder: Path, offset: object, drops: Drops) -> list[Any]:
    """Read a manifest in NeMo's form with one segment of 0.4 s."""
    (folder / "long.wav").write_bytes(encode(tone(0, 2.0), SAMPLE_RATE, "wav"))
    row = {"audio_filepath": "long.wav", "text": "one", "duration": 0.4, "offset": offset}
    (folder / "nemo.jsonl").write_text(json.dumps(row))
    return list(manifest.read(DataArguments("manifest", str(folder / "nemo.jsonl")), "train", drops))


def test_a_link_to_the_whole_corpus_does_not_bring_test_into_train(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder = tmp_path / split
        folder.mkdir()
        (folder / f"{split}.wav").write_bytes(encode(tone(0, 1.0), SAMPLE_RATE, "wav"))
        (folder / f"{split}.txt").write_text(split)
    (tmp_path / "train" / "up").symlink_to("..")
    found = manifest.read_folder(DataArguments("audiofolder", str(tmp_path)), "train", Drops())
    assert [utterance.id for utterance in found] == ["train/train.wav"]


def test_a_damaged_parquet_file_is_told_with_its_fault(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"PAR1xxxx")
    with pytest.raises(UserError, match=r"cannot be loaded: .*Parquet magic bytes"):
        next(manifest.read_hub(DataArguments("hub", str(tmp_path)), "train", Drops()))


Audio = dict[str, Any]
ODD_AUDIOS: dict[str, Callable[[Audio], object]] = {
    "a segment that is a text": lambda audio: audio["segments"].append("text"),
    "a segment that is null": lambda audio: audio["segments"].append(None),
    "subsets that are null": lambda audio: audio["segments"].append({**audio["segments"][0], "subsets": None}),
    "subsets that are a text": lambda audio: audio["segments"].append({**audio["segments"][0], "subsets": "{XS}"}),
}


@pytest.mark.parametrize("fault", ODD_AUDIOS)
def test_an_odd_segment_costs_itself_only(tmp_path: Path, fault: str) -> None:
    audio = one_audio(tmp_path)
    ODD_AUDIOS[fault](audio)
    assert read_audio(tmp_path, audio) == (["POD1_S1"], {"bad_row": 1})


@pytest.mark.parametrize("change", [{"segments": None}, {"duration": "long"}])
def test_an_odd_audio_is_left_out(tmp_path: Path, change: Audio) -> None:
    other = one_audio(tmp_path, "POD2")
    assert read_audio(tmp_path, one_audio(tmp_path) | change, other) == (["POD2_S1"], {"bad_row": 1})


def one_audio(folder: Path, name: str = "POD1") -> Audio:
    """Return an entry of GigaSpeech.json with one segment, and write its file."""
    (folder / f"{name}.wav").write_bytes(encode(tone(0, 2.0), SAMPLE_RATE, "wav"))
    segment = {"sid": f"{name}_S1", "begin_time": 0.5, "end_time": 1.5, "text_tn": "ONE TWO", "subsets": ["{XS}"]}
    return {"aid": name, "path": f"{name}.wav", "duration": 2.0, "segments": [segment]}


def read_audio(folder: Path, *audios: Audio) -> tuple[list[str], dict[str, int]]:
    """Return the ids of subset XS, and what was left out."""
    (folder / "GigaSpeech.json").write_text(json.dumps({"audios": audios}))
    drops = Drops()
    found = [row.id for row in gigaspeech.read(DataArguments("gigaspeech", str(folder)), "XS", drops)]
    return found, drops.counts()
