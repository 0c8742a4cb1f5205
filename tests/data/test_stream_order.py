"""The order of a stream: every clip once for any cut, the same again from any place, mixtures by weight, buckets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

import pytest
from accelerate.data_loader import SkipBatchSampler
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.data.stream import Stream
from hf_asr.data.stream_batches import FILLER, StreamBatchSampler
from hf_asr.data.stream_order import Place, Shuffle, bucketed, dealt, places
from hf_asr.errors import UserError


@dataclass
class Counted:
    """A source of shards with so many clips; clip ``row`` of a shard lasts 1 + row % 7 seconds."""

    sizes: list[int]
    by_shard: bool = True
    failed: dict[str, str] = field(default_factory=dict)
    drops: list[tuple[str, str]] = field(default_factory=list)

    @property
    def num_shards(self) -> int:
        return len(self.sizes)

    @property
    def expected(self) -> int:
        return sum(self.sizes)

    def size(self, index: int) -> int:
        return self.sizes[index]

    promised = size

    def seconds(self, index: int, row: int) -> float:
        return 1.0 + row % 7

    def soon(self, index: int) -> None:
        assert index < len(self.sizes)

    def row(self, index: int, row: int) -> dict[str, int]:
        return {"shard": index, "row": row}


def stream_of(sizes: list[list[int]], *, by_shard: bool = True, buffer: int = 10, weights=(), limit=None) -> Stream:
    return Stream([Counted(some, by_shard) for some in sizes], Shuffle(7, buffer, tuple(weights)), limit=limit)


def everything(sizes: list[list[int]]) -> list[Place]:
    return [(s, i, row) for s, some in enumerate(sizes) for i, size in enumerate(some) for row in range(size)]


SIZES = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=6), min_size=1, max_size=3)


@settings(max_examples=40)
@given(sizes=SIZES, buffer=st.integers(0, 30), readers=st.integers(1, 4), epoch=st.integers(0, 3))
def test_readers_share_an_epoch_out_exactly_once(sizes, buffer, readers, epoch) -> None:
    stream = stream_of(sizes, buffer=buffer)
    found = [place for reader in range(readers) for place in stream.places(epoch, reader=reader, readers=readers)]
    assert sorted(found) == everything(sizes)


@settings(max_examples=40)
@given(
    sizes=SIZES,
    by_shard=st.booleans(),
    processes=st.integers(1, 3),
    batch=st.integers(1, 5),
    accumulation=st.integers(1, 3),
    seconds=st.one_of(st.none(), st.floats(7.0, 40.0)),
)
def test_processes_train_on_every_clip_once(sizes, by_shard, processes, batch, accumulation, seconds) -> None:
    stream = stream_of(sizes, by_shard=by_shard)
    if by_shard and sum(map(len, sizes)) < processes:
        return
    samplers = [
        StreamBatchSampler(
            stream,
            batch_size=batch,
            batch_seconds=seconds,
            padded=list,
            accumulation=accumulation,
            num_processes=processes,
            rank=rank,
        )
        for rank in range(processes)
    ]
    batches = [list(sampler) for sampler in samplers]
    assert sorted(p for mine in batches for one in mine for p in one if p != FILLER) == everything(sizes)
    if not by_shard:  # no process waits for another
        assert len({len(mine) for mine in batches}) == 1
    for one in (one for mine in batches for one in mine if one != [FILLER]):
        lengths = stream.seconds(one)
        assert len(one) <= batch if seconds is None else len(one) * max(lengths) <= seconds + 1e-9


@settings(max_examples=40)
@given(sizes=SIZES, buffer=st.integers(0, 30), stop=st.integers(0, 60), epoch=st.integers(0, 3))
def test_going_through_again_gives_the_rest(sizes, buffer, stop, epoch) -> None:
    whole = list(stream_of(sizes, buffer=buffer).places(epoch))
    before = list(islice(stream_of(sizes, buffer=buffer).places(epoch), stop))
    after = list(islice(stream_of(sizes, buffer=buffer).places(epoch), stop, None))
    assert before + after == whole


@settings(max_examples=40)
@given(
    sizes=st.lists(st.lists(st.integers(1, 12), min_size=2, max_size=6), min_size=2, max_size=3),
    by_shard=st.booleans(),
    weighted=st.booleans(),
    seconds=st.one_of(st.none(), st.floats(7.0, 40.0)),
    skipped=st.integers(0, 9),
    epoch=st.integers(0, 2),
)
def test_batches_of_buckets_and_mixtures_go_on_where_they_were(
    sizes, by_shard, weighted, seconds, skipped, epoch
) -> None:
    """What the Trainer does at a resume: the epoch is set, and accelerate skips batches without reading their clips."""

    def sampler() -> StreamBatchSampler:
        stream = stream_of(sizes, by_shard=by_shard, weights=range(1, len(sizes) + 1) if weighted else ())
        made = StreamBatchSampler(stream, batch_size=3, batch_seconds=seconds, padded=list, num_processes=2, rank=1)
        made.set_epoch(epoch)
        return made

    whole = list(sampler())
    assert list(SkipBatchSampler(sampler(), skipped)) == whole[skipped:]


@pytest.mark.parametrize("processes", [2, 4])
def test_a_listed_stream_takes_the_same_steps_on_any_number_of_processes(processes: int) -> None:
    stream = stream_of([[13, 9, 11]], by_shard=False)

    def steps(number: int) -> list[set[Place]]:
        ranks = [
            list(StreamBatchSampler(stream, batch_size=8 // number, num_processes=number, rank=r))
            for r in range(number)
        ]
        return [{p for batch in step for p in batch if p != FILLER} for step in zip(*ranks, strict=True)]

    assert steps(processes) == steps(1)


def test_the_order_is_what_it_was() -> None:
    """Checkpoints of yesterday are resumed with this order: it may never change."""
    assert list(places(stream_of([[3, 3, 2]]), Shuffle(7, 4), 1)) == ORDER
    assert list(stream_of([[2, 1]], buffer=1).places(5)) == [(0, 0, 0), (0, 0, 1), (0, 1, 0)]


ORDER = [(0, 1, 2), (0, 1, 1), (0, 1, 0), (0, 2, 1), (0, 0, 2), (0, 0, 1), (0, 2, 0), (0, 0, 0)]


def test_epochs_and_seeds_differ() -> None:
    stream = stream_of([[50] * 4])
    first, second = (list(stream.places(epoch)) for epoch in (0, 1))
    assert first != second and sorted(first) == sorted(second)
    assert first != list(places(stream, Shuffle(8, 10), 0))


def test_a_mixture_is_drawn_by_weight_until_the_first_source_ends() -> None:
    stream = stream_of([[1000] * 5, [500] * 4], weights=(1, 3))
    found = list(stream.places(0))
    share = Counter(source for source, _, _ in found)[1] / len(found)
    assert len(found) == len(set(found)) and share == pytest.approx(0.75, abs=0.03)
    assert stream.expected == pytest.approx(len(found), rel=0.1)
    assert found[:200] != list(islice(stream.places(1), 200))


@settings(max_examples=40)
@given(lengths=st.lists(st.floats(0.3, 30.0), min_size=1, max_size=200), most=st.floats(30.0, 200.0))
def test_buckets_of_a_stream_keep_to_the_bound_and_lose_nothing(lengths: list[float], most: float) -> None:
    found = [(0, 0, row) for row in range(len(lengths))]
    for buffer in (1, 50):
        cut = list(bucketed(iter(found), lambda some: [lengths[p[2]] for p in some], most, Shuffle(0, buffer), 0))
        assert sorted(place for batch in cut for place in batch) == found
        assert all(len(batch) * max(lengths[p[2]] for p in batch) <= most * (1 + 1e-9) for batch in cut)


def test_buckets_waste_little() -> None:
    found = [(0, 0, row) for row in range(3000)]
    lengths = [1.0 + (row * 7919 % 2900) / 100 for row in range(3000)]
    cut = list(bucketed(iter(found), lambda some: [lengths[p[2]] for p in some], 240.0, Shuffle(0, 1000), 0))
    padded = sum(len(batch) * max(lengths[p[2]] for p in batch) for batch in cut)
    assert 1 - sum(lengths) / padded < 0.1


def test_a_clip_longer_than_a_batch_is_told() -> None:
    with pytest.raises(UserError, match=r"data\.batch_seconds: .*longest clip of train, found 5 and a clip of 7\.00 s"):
        list(bucketed(iter([(0, 0, 0)]), lambda some: [7.0], 5.0, Shuffle(0, 1), 0))


def test_more_processes_than_shards_are_told() -> None:
    with pytest.raises(UserError, match=r"each of 4 processes, found 3 shards\. Use at most 3 processes, or cut"):
        StreamBatchSampler(stream_of([[5, 5], [5]]), batch_size=2, num_processes=4)
    with pytest.raises(UserError, match=r"found 1 shard in a source with a weight\. Use at most 1 process, or"):
        StreamBatchSampler(stream_of([[5, 5], [5]], weights=(1, 1)), batch_size=2, num_processes=2)


@pytest.mark.parametrize("limit", [1, 7, 20])
@pytest.mark.parametrize("readers", [1, 3])
def test_a_limit_ends_the_epoch(limit: int, readers: int) -> None:
    stream = stream_of([[10] * 6], limit=limit)
    assert sum(len(list(stream.places(0, reader=r, readers=readers))) for r in range(readers)) == limit
    assert stream.expected == limit


@settings(max_examples=40)
@given(sizes=SIZES, readers=st.integers(1, 4), epoch=st.integers(0, 2))
def test_promises_are_kept(sizes, readers, epoch) -> None:
    stream = stream_of(sizes)
    taken = [len(list(stream.places(epoch, reader=reader, readers=readers))) for reader in range(readers)]
    assert stream.promised(readers, epoch) == taken
    assert len(dealt(sizes, stream.how, epoch, 0, 1)) == sum(map(len, sizes))


@pytest.mark.parametrize("seconds", [None, 20.0])
@pytest.mark.parametrize("by_shard", [True, False])
def test_steps_of_an_epoch_are_known(seconds, by_shard) -> None:
    stream = stream_of([[40, 11, 23, 9]], by_shard=by_shard)
    samplers = [
        StreamBatchSampler(
            stream, batch_size=3, batch_seconds=seconds, padded=list, accumulation=2, num_processes=2, rank=rank
        )
        for rank in range(2)
    ]
    longest = max(len(list(sampler)) for sampler in samplers)
    exact = -(-longest // 2)
    assert samplers[0].steps(0) == (pytest.approx(exact, rel=0.3) if by_shard and seconds else exact)


@pytest.mark.parametrize(
    ("sizes", "by_shard", "weights", "processes", "told"),
    [
        (
            [[4] * 16],
            True,
            (),
            8,
            "16 shards for 8 processes x 2 workers, 2 a process (workers need none of their own)",
        ),
        ([[4] * 5], True, (), 1, "5 shards for 1 process x 2 workers, 5 a process (workers need none of their own)"),
        (
            [[4] * 9],
            True,
            (),
            8,
            "9 shards for 8 processes x 2 workers, 1 to 2 a process (workers need none of their own); with shards of "
            "equal size 43.8% of an epoch's steps count nothing",
        ),
        (
            [[4] * 2, [4] * 3],
            True,
            (1.0, 2.0),
            2,
            "5 shards for 2 processes x 2 workers, 2 to 3 a process (workers need none of their own); with shards of "
            "equal size 16.7% of an epoch's steps count nothing",
        ),
        (
            [[4] * 5],
            False,
            (),
            64,
            "a list for 64 processes x 2 workers, who share one order: any number of them will do",
        ),
    ],
)
def test_how_shards_are_dealt_is_told(sizes, by_shard, weights, processes, told) -> None:
    assert stream_of(sizes, by_shard=by_shard, weights=weights).dealing(processes, 2) == told
