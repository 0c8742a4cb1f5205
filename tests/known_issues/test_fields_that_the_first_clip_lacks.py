"""Shards and JSON lines whose first clip has fewer fields than the others, or one that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_corpus import make_tiny_corpus
from helpers.tiny_shards import clip, members_of, write_tar

from hf_asr.config.arguments import DataArguments
from hf_asr.data import manifest, webdataset
from hf_asr.errors import UserError
from hf_asr.utterance import Drops, Utterance

BRACKETS = b"[" * 100_000
FIRST = {
    "no speaker": (b'{"text": "one 0"}', {}),
    "no JSON": (None, {}),
    "half a JSON": (b'{"text', {"bad_row": 1}),
    "brackets without an end": (BRACKETS, {"bad_row": 1}),
    "a list": (b'["one 0"]', {"bad_row": 1}),
}


@pytest.mark.parametrize("name", FIRST)
def test_a_shard_has_the_fields_of_all_its_clips(name: str, tmp_path: Path) -> None:
    content, told = FIRST[name]
    first = [(f"{clip(0)[0]}.flac", clip(0)[2]), *([(f"{clip(0)[0]}.json", content)] if content else [])]
    write_tar(tmp_path / "train-000.tar", [*first, *members_of(1), *members_of(2)])
    drops = Drops()
    found = list(webdataset.read(DataArguments("webdataset", str(tmp_path)), "train", drops))
    assert [one.id for one in found] == [clip(index)[0] for index in range(3)]
    assert [one.text for one in found[1:]] == [clip(1)[1], clip(2)[1]]
    assert [one.speaker for one in found] == ["", "s1", "s2"]
    assert drops.counts() == told


def test_numbers_of_shards_that_go_down_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected shards at .*train-\{5\.\.3\}\.tar, found none"):
        webdataset.shards_of(DataArguments("webdataset", str(tmp_path / "train-{5..3}.tar")), "train")


def read_lines(folder: Path, *rows: dict[str, str]) -> list[Utterance]:
    """Read a manifest of these lines."""
    make_tiny_corpus(folder)
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return list(manifest.read(DataArguments("manifest", str(folder / "lines.jsonl")), "train", Drops()))


def test_json_lines_have_the_keys_of_all_lines(tmp_path: Path) -> None:
    first = {"path": "clip0.wav", "text": "one"}
    second = {"path": "clip1.wav", "text": "two", "speaker": "anna", "id": "second"}
    found = read_lines(tmp_path, first, second)
    assert [(one.id, one.speaker) for one in found] == [("clip0.wav", ""), ("second", "anna")]


def test_a_first_line_without_text_does_not_refuse_the_others(tmp_path: Path) -> None:
    found = read_lines(tmp_path, {"path": "clip0.wav"}, {"path": "clip1.wav", "text": "two"})
    assert [one.text for one in found] == ["", "two"]
