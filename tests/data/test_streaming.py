"""Streams: the same clips as the map-style split, shuffled by seed and epoch, shared out exactly once, drops told."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audio import encode
from hf_asr.data.corpora import CORPORA, build_splits
from hf_asr.data.streaming import shards_of, stream_rows
from hf_asr.errors import UserError
from hf_asr.utterance import ROW_TYPES, AudioRef, Drops, Utterance


def clips(prefix: str, number: int, seconds: float | None = 2.0) -> list[Utterance]:
    audio = AudioRef(path="/nowhere/x.wav")
    return [Utterance(f"{prefix}{i}", audio, f"text {i}", f"s{i % 9}", seconds, corpus="fake") for i in range(number)]


def read_fake(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    """A corpus whose first, middle and last rows are bad; data.path tells how many clips it has."""
    prefix, number = data.path.split("-")
    if split == "gone":
        raise UserError(f"no {split}")
    for index, utterance in enumerate(clips(f"{prefix}{split}", int(number))):
        if index % 7 == 0:
            drops.add("votes", f"bad{index}", "1 up, 2 down")
        yield utterance
    drops.add("votes", "last")


@pytest.fixture(autouse=True)
def fake_corpus(monkeypatch):
    monkeypatch.setitem(CORPORA, "hub", read_fake)


def section(path: str = "a-100", **rest) -> DataArguments:
    return DataArguments(corpus="hub", path=path, streaming=True, **rest)


def ids(rows) -> list[str]:
    return [row["id"] for row in rows]


def told(rows) -> list[tuple[str, str]]:
    return sorted((dropped["id"], dropped["error"]) for row in rows for dropped in row["dropped"])


def test_a_stream_has_the_rows_of_the_map_style_split():
    stream = build_splits(section(shuffle_buffer=1), seed=0, names=["train"])["train"]
    table = build_splits(DataArguments(corpus="hub", path="a-100"), seed=0, names=["train"])["train"]
    assert isinstance(stream.rows, IterableDataset)
    assert stream.seconds is None
    rows = list(stream.rows)
    assert [{name: row[name] for name in ROW_TYPES} for row in rows] == list(table.rows)


def test_validation_and_test_are_never_streamed():
    splits = build_splits(section(), seed=0)
    assert [isinstance(splits[name].rows, IterableDataset) for name in splits] == [True, False, False]
    assert len(splits["test"].rows) == 100


def test_every_epoch_has_its_own_order_and_every_clip_once():
    stream = stream_rows(section(shuffle_buffer=10), "train", 7, Drops())
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append(ids(stream))
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != ids(stream_rows(section(shuffle_buffer=10), "train", 8, Drops()))
    assert [sorted(order) for order in orders] == [sorted(f"atrain{i}" for i in range(100))] * 3


@pytest.mark.parametrize("shuffle_buffer", [1, 10])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_processes_share_it_out_exactly_once(world_size, shuffle_buffer):
    stream = stream_rows(section(shuffle_buffer=shuffle_buffer), "train", 7, Drops())
    stream.set_epoch(3)
    parts = [list(split_dataset_by_node(stream, rank, world_size)) for rank in range(world_size)]
    assert sorted(id for part in parts for id in ids(part)) == sorted(f"atrain{i}" for i in range(100))
    assert all(parts)


def test_workers_share_it_out_exactly_once_and_bring_the_drops():
    stream = stream_rows(section(shuffle_buffer=10), "train", 7, Drops())
    loader = DataLoader(stream, batch_size=8, num_workers=2, collate_fn=list)
    rows = [row for batch in loader for row in batch]
    assert sorted(ids(rows)) == sorted(f"atrain{i}" for i in range(100))


def test_what_the_list_tells_is_counted_at_the_start():
    drops = Drops()
    rows = list(stream_rows(section(shuffle_buffer=10), "train", 7, drops))
    assert drops.counts() == {"votes": 16}
    assert told(rows) == []
    assert build_splits(section(), seed=7, names=["train"])["train"].drops.counts() == {"votes": 16}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_audio_in_rows_is_read_once_and_rows_tell_all_drops(monkeypatch, num_workers):
    data = AudioRef(data=b"x")

    def read(section, split, drops):
        for index in range(30):
            drops.add("votes", f"bad{index}", "1 up, 2 down")
            yield Utterance(f"u{index}", data, "a", duration=40.0 if index % 10 == 9 else 1.0)

    monkeypatch.setitem(CORPORA, "hub", read)
    drops = Drops()
    stream = stream_rows(section(shuffle_buffer=4), "train", 0, drops)
    assert stream.num_shards == 1
    assert drops.total() == 0
    rows = [
        row for batch in DataLoader(stream, batch_size=4, num_workers=num_workers, collate_fn=list) for row in batch
    ]
    assert sorted(ids(rows)) == sorted(f"u{i}" for i in range(30) if i % 10 != 9)
    long = [(f"u{i}", "too_long: 40.00 s, data.max_seconds is 30") for i in (9, 19, 29)]
    assert told(rows) == sorted([(f"bad{i}", "votes: 1 up, 2 down") for i in range(30)] + long)


def test_a_stream_pickles():
    stream = stream_rows(section(shuffle_buffer=10), "train", 7, Drops())
    assert ids(pickle.loads(pickle.dumps(stream))) == ids(stream)


@pytest.mark.parametrize("shuffle_buffer", [1, 10])
def test_what_is_left_out_is_told_once_and_takes_no_place(monkeypatch, tmp_path, shuffle_buffer):
    monkeypatch.setattr("hf_asr.data.streaming.FEW", 0)  # as with many clips: headers are read while streaming
    (tmp_path / "whole").write_bytes(encode(np.full(24_000, 0.1, dtype=np.float32), 16_000, "wav"))
    (tmp_path / "broken").write_bytes(b"no audio")
    bad = [
        Utterance("short", AudioRef(path="x"), "a", duration=0.1),
        Utterance("long", AudioRef(path="x"), "a", duration=30.5),
        Utterance("empty", AudioRef(path="x"), "", duration=1.0),
        Utterance("broken", AudioRef(path=str(tmp_path / "broken")), "a"),
    ]
    good = Utterance("header", AudioRef(path=str(tmp_path / "whole")), "a")
    everything = [*bad[:2], *clips("c", 60), good, *bad[2:]]
    monkeypatch.setitem(CORPORA, "hub", lambda data, split, drops: iter(everything))
    drops = Drops()
    rows = list(stream_rows(section(shuffle_buffer=shuffle_buffer), "train", 0, drops))
    assert sorted(ids(rows)) == sorted([*ids(u.as_row() for u in clips("c", 60)), "header"])
    assert {row["id"]: row["duration"] for row in rows}["header"] == 1.5
    assert drops.counts() == {"empty_text": 1, "too_long": 1, "too_short": 1}
    ((id, error),) = told(rows)
    assert id == "broken"
    assert error.startswith("broken_audio: ")
    with pytest.raises(UserError, match=r"on_bad_clip=raise: .*found broken"):
        list(stream_rows(section(shuffle_buffer=shuffle_buffer, on_bad_clip="raise"), "train", 0, Drops()))


def test_a_shard_of_which_nothing_is_left_says_so(monkeypatch, caplog):
    monkeypatch.setattr("hf_asr.data.streaming.FEW", 0)  # as with many clips: headers are read while streaming
    monkeypatch.setitem(CORPORA, "hub", lambda data, split, drops: iter(clips("c", 2, seconds=None)))
    with caplog.at_level(logging.WARNING):
        assert list(stream_rows(section(shuffle_buffer=1), "train", 0, Drops())) == []
    assert "left out of train: c0: broken_audio: " in caplog.text
    assert "left out of train: c1: broken_audio: " in caplog.text


@pytest.mark.parametrize("shuffle_buffer", [1, 10])
def test_limit_takes_the_clips_that_the_map_style_split_takes(shuffle_buffer):
    stream = stream_rows(section(shuffle_buffer=shuffle_buffer, limit={"train": 12}), "train", 0, Drops())
    assert sorted(ids(stream)) == sorted(f"atrain{i}" for i in range(12))
    drawn = stream_rows(
        mixture(weights=(1, 1), shuffle_buffer=shuffle_buffer, limit={"train": 12}), "train", 0, Drops()
    )
    assert len(ids(drawn)) == 12


def test_limit_counts_clips_whose_header_can_be_read(monkeypatch, tmp_path):
    (tmp_path / "whole").write_bytes(encode(np.full(24_000, 0.1, dtype=np.float32), 16_000, "wav"))
    (tmp_path / "broken").write_bytes(b"no audio")
    names = ["broken", "whole", "broken", "whole", "whole"]
    found = [Utterance(f"u{i}", AudioRef(path=str(tmp_path / name)), "a") for i, name in enumerate(names)]
    monkeypatch.setitem(CORPORA, "hub", lambda data, split, drops: iter(found))
    assert sorted(ids(stream_rows(section(limit={"train": 2}), "train", 0, Drops()))) == ["u1", "u3"]


def test_a_cache_of_datasets_that_cannot_be_written(monkeypatch):
    monkeypatch.setattr(IterableDataset, "from_generator", refuse)
    with pytest.raises(UserError, match=r"data\.streaming: .*Read-only file system.*Set HF_HOME"):
        stream_rows(section(), "train", 0, Drops())


def refuse(*args, **kwargs):
    raise OSError(30, "Read-only file system")


def test_several_parts_and_the_held_out_side():
    splits = {"train": ["x", "y"], "held_out": {"validation": 0.3}}
    split = build_splits(section(splits=splits), seed=0, names=["train", "validation"])
    streamed = ids(split["train"].rows)
    assert sorted([*streamed, *split["validation"].rows["id"]]) == sorted(f"a{s}{i}" for s in "xy" for i in range(100))
    assert 0 < len(streamed) < 200


def mixture(**rest) -> DataArguments:
    weights = rest.pop("weights", (None, None))
    sources = [{"corpus": "hub", "path": p, "weight": w} for p, w in zip(("a-300", "b-100"), weights, strict=True)]
    return DataArguments(sources=sources, streaming=True, **rest)


def test_a_mixture_without_weights_has_every_clip_once():
    wanted = sorted([f"atrain{i}" for i in range(300)] + [f"btrain{i}" for i in range(100)])
    assert sorted(ids(stream_rows(mixture(shuffle_buffer=10), "train", 0, Drops()))) == wanted
    assert sorted(ids(stream_rows(mixture(shuffle_buffer=1), "train", 0, Drops()))) == wanted


def test_a_mixture_is_drawn_by_weight():
    found = ids(stream_rows(mixture(weights=(1, 3), shuffle_buffer=20), "train", 0, Drops()))
    assert len(found) == len(set(found))
    # 100 clips of b are exhausted after about 133 draws; 3 standard deviations of the share are 0.11.
    assert sum(id.startswith("b") for id in found) / len(found) == pytest.approx(0.75, abs=0.12)
    assert found == ids(stream_rows(mixture(weights=(1, 3), shuffle_buffer=20), "train", 0, Drops()))
    assert found != ids(stream_rows(mixture(weights=(1, 3), shuffle_buffer=20), "train", 1, Drops()))


def test_a_corpus_that_cannot_be_read_is_told_at_once():
    with pytest.raises(UserError, match="no gone"):
        stream_rows(section(splits={"train": "gone"}), "train", 0, Drops())


@pytest.mark.parametrize(("size", "number"), [(0, 12), (5, 12), (1535, 12), (1536, 48), (7680, 240), (100_000, 960)])
@pytest.mark.parametrize("in_order", [True, False])
def test_shards_cover_a_table_evenly(size, number, in_order):
    shards = [range(*shard) for shard in shards_of(size, in_order)]
    assert len(shards) == number
    assert sorted(place for shard in shards for place in shard) == list(range(size))
    assert {len(shard) for shard in shards} <= {size // number, size // number + 1}
    if in_order:
        assert [place for shard in shards for place in shard] == list(range(size))


def test_gigaspeech_layout_streams_what_it_holds(shared_data: Path):
    data = DataArguments(
        corpus="gigaspeech", path=str(shared_data / "gigaspeech_layout"), splits={"train": "S"}, shuffle_buffer=100
    )
    table = build_splits(data, seed=0, names=["train"])["train"]
    stream = ids(stream_rows(data, "train", 0, Drops()))
    assert sorted(stream) == sorted(table.rows["id"])
    assert stream != list(table.rows["id"])
