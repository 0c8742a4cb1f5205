"""An id that a source has twice: left out and named where all ids are known, named where shards come one by one."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_corpus import make_tiny_corpus
from helpers.tiny_shards import clip, make_parquet, make_tars, members_of, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.config.arguments import DataArguments
from hf_asr.data.corpora import build_splits
from hf_asr.data.repeated_ids import SeenIds, packed, unpacked
from hf_asr.data.stream import Stream
from hf_asr.data.streaming import stream_rows
from hf_asr.errors import UserError
from hf_asr.utterance import Drops

WARNING = "data.streaming: expected every id once, found"


def manifest(folder: Path) -> dict[str, object]:
    """Write a manifest that has a clip's row twice."""
    path = make_tiny_corpus(folder, train=3, validation=0, test=0)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    return {"corpus": "manifest", "path": str(path)}


def tars(folder: Path) -> dict[str, object]:
    """Write three shards of which the last has a clip of the first."""
    make_tars(folder, 2, 2)
    write_tar(folder / "train-002.tar", [*members_of(0), *members_of(9)])
    return {"corpus": "webdataset", "path": str(folder)}


def parquet(folder: Path) -> dict[str, object]:
    """Write a shard twice."""
    make_parquet(folder, 2, 2)
    first, second = sorted(folder.iterdir())
    second.write_bytes(first.read_bytes())
    return {"corpus": "hub", "path": str(folder)}


def opened(section: dict[str, object], drops: Drops, **rest: object) -> Stream:
    data = DataArguments(**section, streaming=True, **rest)  # type: ignore[arg-type]
    return stream_rows(data, "train", 0, drops)


@pytest.mark.parametrize(("make", "repeated"), [(manifest, 1), (tars, 1), (parquet, 2)])
def test_of_a_table_the_later_clip_is_left_out_and_named(make, repeated: int, tmp_path: Path) -> None:
    split = build_splits(DataArguments(**make(tmp_path / "data")), seed=0, names=["train"])["train"]
    assert len(set(split.rows["id"])) == len(split.rows)
    assert split.drops.counts() == {"duplicate_id": repeated}


def test_of_a_listed_stream_too(tmp_path: Path) -> None:
    drops = Drops()
    ids = [row["id"] for row in opened(manifest(tmp_path / "data"), drops)]
    assert len(set(ids)) == len(ids) == 3 and drops.counts() == {"duplicate_id": 1}


@pytest.mark.parametrize(
    ("make", "clips", "repeated"), [(tars, 6, ["clip0000"]), (parquet, 4, ["clip0000", "clip0001"])]
)
def test_of_shards_it_is_named_once_and_none_is_lost(
    make, clips: int, repeated: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = opened(make(tmp_path / "data"), Drops())
    for epoch in (0, 1):
        assert len([stream.row(place) for place in stream.places(epoch)]) == clips
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told.startswith(f"{WARNING} {len(repeated)} of {tmp_path / 'data'}")
    assert all(id in told for id in repeated) and "Both are trained on" in told
    assert stream.take_drops() == []


@pytest.mark.parametrize("make", [tars, parquet])
def test_of_shards_it_is_refused_where_that_is_asked_for(make, tmp_path: Path) -> None:
    section = make(tmp_path / "data")
    for _ in range(2):  # also when all shards are listed
        with pytest.raises(
            UserError, match=r"on_bad_clip=raise: expected every id once, found .*clip0000 \(in train-0"
        ):
            list(opened(section, Drops(), on_bad_clip="raise"))


def test_inside_a_shard_the_later_clip_is_left_out(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "train-0.tar", [*members_of(0), *members_of(1), ("x.flac", clip(2)[2]), ("x.json", b'{"id": 7}')]
    )
    write_tar(tmp_path / "train-1.tar", [("y/a.flac", clip(3)[2]), ("y/a.txt", b"one"), *members_of(4), *members_of(4)])
    stream = opened({"corpus": "webdataset", "path": str(tmp_path)}, Drops())
    assert sorted(row["id"] for row in stream) == ["clip0000", "clip0001", "clip0004", "y/a"]
    assert {error.partition(":")[0] for _, error in stream.take_drops()} == {"empty_text", "duplicate_id"}


def test_sources_of_a_mixture_are_told_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = [tars(tmp_path / "a"), tars(tmp_path / "b"), manifest(tmp_path / "c"), manifest(tmp_path / "d")]
    drops = Drops()
    ids = [row["id"] for row in opened({"sources": sources}, drops)]
    assert len(ids) == 6 + 6 + 3 + 3 and len(set(ids)) == 5 + 5 + 3 + 3
    assert drops.counts() == {"duplicate_id": 2} and caplog.text.count(WARNING) == 2


@settings(max_examples=30)
@given(st.lists(st.lists(st.text(max_size=3), unique=True), max_size=6))
def test_every_id_of_an_earlier_shard_is_found(shards: list[list[str]]) -> None:
    seen, before = SeenIds(), dict[str, int]()
    for shard, ids in enumerate(shards):
        assert seen.add(shard, unpacked(packed(ids))) == [
            (row, before[id]) for row, id in enumerate(ids) if id in before
        ]
        before = {id: shard for id in ids} | before


def test_an_id_takes_12_bytes() -> None:
    seen, random = SeenIds(), np.random.default_rng(0)
    for shard in range(10):
        assert seen.add(shard, random.integers(2**63, size=1000, dtype=np.uint64)) == []
    assert seen._hashes.nbytes + seen._shards.nbytes == 12 * 10_000
