"""A cache written in parts is the one that is written at once, whoever comes when and whoever is killed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.clips import noise, row_of, split_of, write_clip
from helpers.tiny_whisper import tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, FeatureArguments, ModelArguments
from hf_asr.data.corpora import Split
from hf_asr.errors import UserError
from hf_asr.features import parts
from hf_asr.features.cache import MANIFEST, prepare_features
from hf_asr.features.extract import ClipEncoder, LogMel, TokenLabels
from hf_asr.features.parts import Shard, write_parts

TOKENIZER = tiny_tokenizer()


@pytest.fixture
def encoder() -> ClipEncoder:
    prefix = (TOKENIZER.get_vocab()["<|notimestamps|>"],)
    labeller = TokenLabels(TOKENIZER, prefix=prefix, end_token=TOKENIZER.eos_token_id, max_tokens=64)
    return ClipEncoder(LogMel(WhisperFeatureExtractor(chunk_length=4)), labeller)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Seven clips, the second missing and the sixth too short."""
    lengths = (0.5, 1.0, 1.5, 0.3, 2.0, 0.1, 0.7)
    paths = [write_clip(tmp_path / f"{index}.wav", noise(length, index)) for index, length in enumerate(lengths)]
    paths[1].unlink()
    return split_of([row_of(path, f"text {path.stem}") for path in paths])


def arguments_of(folder: Path, **data: Any) -> Arguments:
    return Arguments(
        experiment=ExperimentArguments(name="tiny"),
        model=ModelArguments(name_or_path="none"),
        data=DataArguments(corpus="manifest", **data),
        features=FeatureArguments(cache_dir=str(folder), num_proc=1),
    )


def write(split: Split, encoder: ClipEncoder, folder: Path, shard: Shard, **data: Any) -> list[int]:
    """Write one part of a training split; return the numbers that are missing."""
    return write_parts({"train": split}, encoder, arguments_of(folder, **data), shard)["train"]


def read(split: Split, encoder: ClipEncoder, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], bool]:
    """Return the rows of a split's cache, what was dropped, and whether it was there before."""
    features = FeatureArguments(cache_dir=str(folder), num_proc=1)
    prepared = prepare_features(split, encoder, fingerprint={}, features=features, on_bad_clip="skip")
    return [dict(row) for row in prepared.rows.table], prepared.drops.to_dict(), prepared.reused


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (3, 1, 2), (7, 1, 6, 3, 2, 5, 4, 8, 9)], ids=str)
def test_parts_are_the_whole_byte_for_byte(
    split: Split, encoder: ClipEncoder, tmp_path: Path, order: tuple[int, ...]
) -> None:
    whole = read(split, encoder, tmp_path / "whole")
    left = [write(split, encoder, tmp_path / "parts", Shard(number, len(order))) for number in order]
    of = min(len(order), 7)
    assert left[0] == [number for number in range(1, of + 1) if number != order[0]] and left[-1] == []
    assert read(split, encoder, tmp_path / "parts") == (*whole[:2], True)
    names = [{path.name for path in (tmp_path / name).glob("train-*") if path.is_dir()} for name in ("parts", "whole")]
    assert names[0] == names[1] and len(names[0]) == 1


def test_the_joint_manifest_counts_what_is_in_all_parts(split: Split, encoder: ClipEncoder, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(split, encoder, tmp_path / "cache", Shard(number, 3))
    [path] = (tmp_path / "cache").glob(f"train-*/{MANIFEST}")
    manifest = json.loads(path.read_text())
    assert (manifest["clips"], {reason: len(ids) for reason, ids in manifest["drops"].items()}) == (
        5,
        {"broken_audio": 1, "too_short": 1},
    )
    assert list(manifest["files"]) == [f"part-{number}/features.arrow" for number in (1, 2, 3)]


def test_a_part_is_written_once_and_after_the_whole_none_is(
    split: Split, encoder: ClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(split, encoder, tmp_path / "cache", Shard(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(ClipEncoder, "__call__", lambda *_: pytest.fail("encoded twice"))
        assert write(split, encoder, tmp_path / "cache", Shard(1, 2)) == [2]
    assert write(split, encoder, tmp_path / "cache", Shard(2, 2)) == []
    monkeypatch.setattr(ClipEncoder, "__call__", lambda *_: pytest.fail("encoded twice"))
    assert write(split, encoder, tmp_path / "cache", Shard(1, 3)) == []


@pytest.mark.parametrize("moment", ["manifest", "rename"])
def test_killed_while_parts_are_joined(
    split: Split, encoder: ClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    write(split, encoder, tmp_path / "cache", Shard(1, 2))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if moment == "manifest":
            patch.setattr(parts, "_write_joint_manifest", killed)
        else:
            patch.setattr(Path, "rename", lambda path, to: killed() if "parts" in path.name else path.replace(to))
        write(split, encoder, tmp_path / "cache", Shard(2, 2))
    assert not [path for path in (tmp_path / "cache").glob("train-*") if path.is_dir() and "parts" not in path.name]
    monkeypatch.setattr(ClipEncoder, "__call__", lambda *_: pytest.fail("encoded twice"))
    assert write(split, encoder, tmp_path / "cache", Shard(1, 2)) == []


def test_a_disk_that_fills_up_while_parts_are_joined(
    split: Split, encoder: ClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(split, encoder, tmp_path / "cache", Shard(1, 2))
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"features\.cache_dir: .*the disk is full"):
        patch.setattr(parts, "write_whole", full)
        write(split, encoder, tmp_path / "cache", Shard(2, 2))
    monkeypatch.setattr(ClipEncoder, "__call__", lambda *_: pytest.fail("encoded twice"))
    assert write(split, encoder, tmp_path / "cache", Shard(1, 2)) == []


def test_a_damaged_part_is_written_again(split: Split, encoder: ClipEncoder, tmp_path: Path) -> None:
    write(split, encoder, tmp_path / "cache", Shard(1, 2))
    [file] = (tmp_path / "cache").rglob("part-1/*.arrow")
    file.write_bytes(file.read_bytes()[:-8])
    assert write(split, encoder, tmp_path / "cache", Shard(2, 2)) == [1]
    assert write(split, encoder, tmp_path / "cache", Shard(1, 2)) == []


def test_a_damaged_cache_is_replaced(split: Split, encoder: ClipEncoder, tmp_path: Path) -> None:
    whole = read(split, encoder, tmp_path / "cache")
    [folder] = (path for path in (tmp_path / "cache").glob("train-*") if path.is_dir())
    shutil.move(folder / MANIFEST, folder / "elsewhere")
    assert [write(split, encoder, tmp_path / "cache", Shard(number, 2)) for number in (1, 2)] == [[2], []]
    assert read(split, encoder, tmp_path / "cache") == (*whole[:2], True)


def test_a_bad_clip_may_stop_its_shard(split: Split, encoder: ClipEncoder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"on_bad_clip=raise: .* found 1: broken_audio"):
        write(split, encoder, tmp_path / "cache", Shard(1, 2), on_bad_clip="raise")


@given(st.integers(0, 300), st.integers(1, 40))
def test_every_row_is_in_one_part(rows: int, of: int) -> None:
    bounds = [Shard(number, of).bounds(rows) for number in range(1, of + 1)]
    assert [row for begin, end in bounds for row in range(begin, end)] == list(range(rows))
    sizes = [end - begin for begin, end in bounds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["3", "0/8", "9/8", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UserError, match="--shard: expected a number and how many there are, 1/8 to 8/8, found"):
        Shard.parse(text)


def test_a_launcher_gives_each_process_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Shard.of_launcher() == Shard(1, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert Shard.of_launcher() == Shard(3, 8)
