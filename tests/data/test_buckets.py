"""Batches by padded seconds: every clip once, bounded, the same steps however they are cut."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.data.buckets import BucketBatchSampler, clips_in_batch, cut_buckets
from hf_asr.data.sampling import Epoch
from hf_asr.errors import UserError

LENGTHS = st.lists(st.floats(0.3, 30.0), min_size=1, max_size=200)
SPEECH = np.random.RandomState(0).lognormal(1.6, 0.5, 2000).clip(1, 25)


def steps_of(seconds: list[float], accumulation: int, processes: int, epoch: int = 0) -> list[set[int]]:
    """Return the clips of each optimiser step, of all ranks; fillers left out."""
    ranks = []
    for rank in range(processes):
        sampler = BucketBatchSampler(
            seconds, batch_seconds=60, accumulation=accumulation, num_processes=processes, rank=rank
        )
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        ranks.append([batches[first : first + accumulation] for first in range(0, len(batches), accumulation)])
    return [
        {index for rank in step for batch in rank for index in batch if index >= 0} for step in zip(*ranks, strict=True)
    ]


@given(LENGTHS, st.booleans(), st.integers(0, 3))
def test_every_clip_comes_once_and_no_batch_is_too_long(seconds: list[float], shuffle: bool, epoch: int) -> None:
    sampler = BucketBatchSampler(seconds, batch_seconds=40, shuffle=shuffle)
    batches = sampler.batches(epoch)
    assert sorted(index for batch in batches for index in batch.tolist()) == list(range(len(seconds)))
    assert max(len(batch) * max(seconds[index] for index in batch) for batch in batches) <= 40 + 1e-6
    assert len(batches) == sampler.num_batches


@given(LENGTHS, st.sampled_from([(1, 4), (4, 1), (2, 2)]))
def test_a_step_has_the_same_clips_however_it_is_cut(seconds: list[float], cut: tuple[int, int]) -> None:
    assert steps_of(seconds, *cut) == steps_of(seconds, 4, 1)


def test_all_ranks_have_equally_many_batches_and_fillers_fill_up() -> None:
    samplers = [BucketBatchSampler([10.0] * 5, batch_seconds=10, num_processes=3, rank=rank) for rank in range(3)]
    batches = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [2, 2, 2]
    assert sum(index < 0 for rank in batches for batch in rank for index in batch) == 1


def test_little_padding_and_every_epoch_another_order() -> None:
    sampler = BucketBatchSampler(SPEECH.tolist(), batch_seconds=120)
    assert sampler.padding() < 0.08
    first, second = ([batch.tolist() for batch in sampler.batches(epoch)] for epoch in (0, 1))
    assert first != second and [batch.tolist() for batch in sampler.batches(0)] == first
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}


def test_rows_in_their_order_stay_so() -> None:
    batches = BucketBatchSampler([4.0, 4.0, 9.0, 1.0, 1.0], batch_seconds=10, shuffle=False).batches(3)
    assert [batch.tolist() for batch in batches] == [[0, 1], [2], [3, 4]]


def test_buckets_are_narrow_where_there_are_clips_enough() -> None:
    buckets = cut_buckets(SPEECH, 30)
    assert sorted(np.concatenate(buckets).tolist()) == list(range(len(SPEECH)))
    wide = [bucket for bucket in buckets if SPEECH[bucket].min() < 0.85 * SPEECH[bucket].max()]
    assert all(len(bucket) <= 4 * clips_in_batch(SPEECH[bucket].max(), 30) for bucket in wide)


def test_it_pickles_and_tells_the_epoch() -> None:
    told = Epoch()
    sampler = BucketBatchSampler([1.0, 2.0], batch_seconds=4, told=told)
    sampler.set_epoch(3)
    assert told.value == 3
    again = pickle.loads(pickle.dumps(BucketBatchSampler([1.0, 2.0], batch_seconds=4)))
    assert list(again) == list(BucketBatchSampler([1.0, 2.0], batch_seconds=4))


def test_a_clip_longer_than_a_batch_is_told() -> None:
    with pytest.raises(UserError, match=r"data\.batch_seconds: expected at least the longest clip of train, 12\.50 s"):
        BucketBatchSampler([1.0, 12.5], batch_seconds=10)
