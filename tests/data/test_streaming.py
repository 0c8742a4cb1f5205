"""Streams of listed corpora: the clips of the map-style split, shuffled by seed and epoch."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audio import encode
from hf_asr.data.corpora import CORPORA, build_splits
from hf_asr.data.stream import FEW, Stream, shards_of
from hf_asr.data.stream_batches import StreamBatchSampler
from hf_asr.data.streaming import stream_rows
from hf_asr.errors import UserError
from hf_asr.features.streamed import StreamRows
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
    monkeypatch.setitem(CORPORA, "audiofolder", read_fake)


def section(path: str = "a-100", **rest) -> DataArguments:
    return DataArguments(corpus="audiofolder", path=path, streaming=True, **rest)


def ids(rows) -> list[str]:
    return [row["id"] for row in rows]


def epoch(stream: Stream, number: int) -> list[str]:
    return [stream.row(place)["id"] for place in stream.places(number)]


def test_a_stream_has_the_rows_of_the_map_style_split():
    stream = build_splits(section(shuffle_buffer=1), seed=0, names=["train"])["train"]
    table = build_splits(DataArguments(corpus="audiofolder", path="a-100"), seed=0, names=["train"])["train"]
    assert isinstance(stream.rows, Stream)
    assert stream.seconds is None
    rows = list(stream.rows)
    assert [{name: row[name] for name in ROW_TYPES} for row in rows] == list(table.rows)


def test_validation_and_test_are_never_streamed():
    splits = build_splits(section(), seed=0)
    assert [isinstance(splits[name].rows, Stream) for name in splits] == [True, False, False]
    assert len(splits["test"].rows) == 100


def test_every_epoch_has_its_own_order_and_every_clip_once():
    stream = stream_rows(section(shuffle_buffer=10), "train", 7, Drops())
    orders = [epoch(stream, number) for number in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != ids(stream_rows(section(shuffle_buffer=10), "train", 8, Drops()))
    assert [sorted(order) for order in orders] == [sorted(f"atrain{i}" for i in range(100))] * 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_read_what_the_order_says(num_workers):
    stream = stream_rows(section(shuffle_buffer=10), "train", 7, Drops())
    rows = StreamRows(stream, dict)
    loader = DataLoader(
        rows, batch_sampler=StreamBatchSampler(stream, batch_size=8), num_workers=num_workers, collate_fn=list
    )
    assert [row["id"] for batch in loader for row in batch] == ids(stream)


def test_what_the_list_tells_is_counted_at_the_start():
    drops = Drops()
    stream_rows(section(shuffle_buffer=10), "train", 7, drops)
    assert drops.counts() == {"votes": 16}
    assert build_splits(section(), seed=7, names=["train"])["train"].drops.counts() == {"votes": 16}


def test_a_stream_pickles():
    stream = stream_rows(section(shuffle_buffer=10), "train", 7, Drops())
    assert ids(pickle.loads(pickle.dumps(stream))) == ids(stream)


def test_lengths_are_listed_where_batches_need_them(monkeypatch, tmp_path):
    (tmp_path / "whole").write_bytes(encode(np.full(24_000, 0.1, dtype=np.float32), 16_000, "wav"))
    found = [Utterance(f"u{i}", AudioRef(path=str(tmp_path / "whole")), "a") for i in range(FEW)]
    monkeypatch.setitem(CORPORA, "audiofolder", lambda data, split, drops: iter(found))
    places = [(0, 0, 0), (0, 1, 3)]
    assert stream_rows(section(), "train", 0, Drops()).seconds(places) == [30.0, 30.0]
    assert stream_rows(section(batch_seconds=60), "train", 0, Drops()).seconds(places) == [1.5, 1.5]


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
    monkeypatch.setitem(CORPORA, "audiofolder", lambda data, split, drops: iter(found))
    assert sorted(ids(stream_rows(section(limit={"train": 2}), "train", 0, Drops()))) == ["u1", "u3"]


def test_several_parts_and_the_held_out_side():
    splits = {"train": ["x", "y"], "held_out": {"validation": 0.3}}
    split = build_splits(section(splits=splits), seed=0, names=["train", "validation"])
    streamed = ids(split["train"].rows)
    assert sorted([*streamed, *split["validation"].rows["id"]]) == sorted(f"a{s}{i}" for s in "xy" for i in range(100))
    assert 0 < len(streamed) < 200


def mixture(**rest) -> DataArguments:
    weights = rest.pop("weights", (None, None))
    sources = [
        {"corpus": "audiofolder", "path": p, "weight": w} for p, w in zip(("a-300", "b-100"), weights, strict=True)
    ]
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


def test_ids_of_two_sources_that_are_alike_are_told_apart():
    sources = [{"corpus": "audiofolder", "path": "a-30"}, {"corpus": "audiofolder", "path": "a-30"}]
    found = ids(stream_rows(DataArguments(sources=sources, streaming=True), "train", 0, Drops()))
    assert len(set(found)) == 60 and sum(id.startswith("audiofolder1:") for id in found) == 30


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
