"""Sampling: every example once an epoch, and a step's examples do not depend on how the step is cut."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from accelerate import skip_first_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hf_asr.data.sampling import StepBatchSampler, TrainingRows, epoch_order, filler_index

FROZEN = ([1, 8, 5, 3, 7, 9, 4, 0, 6, 2], [9, 5, 8, 7, 6, 4, 0, 3, 1, 2])
SHAPES = {
    "num_examples": st.integers(1, 90),
    "batch_size": st.integers(1, 6),
    "accumulation": st.integers(1, 5),
    "num_processes": st.integers(1, 5),
    "epoch": st.integers(0, 3),
    "shuffle": st.booleans(),
}


def of_all_ranks(num_examples, *, batch_size, accumulation, num_processes, epoch=0, shuffle=True, seed=42):
    """Return (sampler of rank 0, micro-batches by rank)."""
    samplers = [
        StepBatchSampler(
            num_examples,
            batch_size=batch_size,
            accumulation=accumulation,
            num_processes=num_processes,
            rank=rank,
            seed=seed,
            shuffle=shuffle,
        )
        for rank in range(num_processes)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return samplers[0], [list(sampler) for sampler in samplers]


def steps(sampler, by_rank):
    """Cut the ranks' micro-batches into optimiser steps as the Trainer does: every A, the rest at the epoch's end."""
    size = sampler.accumulation
    return [[rank[start : start + size] for rank in by_rank] for start in range(0, len(by_rank[0]), size)]


def examples(step):
    return sorted(index for rank in step for micro_batch in rank for index in micro_batch if index >= 0)


@given(**SHAPES)
@settings(max_examples=200, deadline=None)
def test_each_example_comes_once_and_all_ranks_have_equally_many_batches(num_examples, **shape):
    sampler, by_rank = of_all_ranks(num_examples, **shape)
    indices = [index for rank in by_rank for micro_batch in rank for index in micro_batch]
    assert sorted(index for index in indices if index >= 0) == list(range(num_examples))
    assert {len(rank) for rank in by_rank} == {len(sampler)}
    assert all(1 <= len(micro_batch) <= shape["batch_size"] for rank in by_rank for micro_batch in rank)
    fillers = [micro_batch for rank in by_rank for micro_batch in rank if min(micro_batch) < 0]
    assert all(len(micro_batch) == 1 and 0 <= filler_index(micro_batch[0]) < num_examples for micro_batch in fillers)
    # Fillers stand only where a step has fewer examples than micro-batches.
    assert len(fillers) < shape["num_processes"]


@given(**SHAPES)
@settings(max_examples=200, deadline=None)
def test_a_step_takes_the_next_examples_of_the_order(num_examples, **shape):
    sampler, by_rank = of_all_ranks(num_examples, **shape)
    order = epoch_order(num_examples, seed=42, epoch=shape["epoch"], shuffle=shape["shuffle"])
    size = shape["batch_size"] * shape["accumulation"] * shape["num_processes"]
    cut = steps(sampler, by_rank)
    assert len(cut) == sampler.num_steps
    for number, step in enumerate(cut):
        assert examples(step) == sorted(order[number * size : (number + 1) * size])
        assert {len(rank) for rank in step} == {sampler.micro_batches_in_step(number)}


@given(
    num_examples=st.integers(1, 90),
    size=st.sampled_from([4, 6, 8, 12, 24]),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_steps_are_the_same_for_every_cut(num_examples, size, epoch, shuffle):
    cuts = [
        (batch, accumulation, size // batch // accumulation)
        for batch in range(1, size + 1)
        for accumulation in range(1, size + 1)
        if size % (batch * accumulation) == 0
    ]
    taken = []
    for batch, accumulation, processes in cuts:
        sampler, by_rank = of_all_ranks(
            num_examples,
            batch_size=batch,
            accumulation=accumulation,
            num_processes=processes,
            epoch=epoch,
            shuffle=shuffle,
        )
        taken.append([examples(step) for step in steps(sampler, by_rank)])
    assert all(one == taken[0] for one in taken)


@given(skipped=st.integers(0, 40), **SHAPES)
@settings(max_examples=60, deadline=None)
def test_skipping_batches_leaves_the_same_remainder(num_examples, skipped, **shape):
    sampler, by_rank = of_all_ranks(num_examples, **shape)
    loader = DataLoader(TrainingRows(range(num_examples)), batch_sampler=sampler, collate_fn=list)
    sampler.set_epoch(0)
    skipped %= len(sampler) + 1
    resumed = skip_first_batches(loader, skipped)
    # The Trainer sets the epoch after skipping, on the sampler inside accelerate's.
    resumed.batch_sampler.batch_sampler.set_epoch(shape["epoch"])
    assert list(resumed.batch_sampler) == by_rank[0][skipped:]


@pytest.mark.parametrize(
    ("num_examples", "expected"),
    [
        # A full step: micro-batch a of rank r has (a * P + r) * B onwards; then 5, 4, 2 and 1 left for two ranks.
        (8, [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]),
        (13, [[[0, 1], [4, 5], [8, 9], [11]], [[2, 3], [6, 7], [10], [12]]]),
        (12, [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7], [10, 11]]]),
        (10, [[[0, 1], [4, 5], [8]], [[2, 3], [6, 7], [9]]]),
        (9, [[[0, 1], [4, 5], [8]], [[2, 3], [6, 7], [-9]]]),
        (1, [[[0]], [[-1]]]),
    ],
)
def test_cut_of_two_ranks(num_examples, expected):
    _, by_rank = of_all_ranks(num_examples, batch_size=2, accumulation=2, num_processes=2, shuffle=False)
    assert by_rank == expected


def test_epochs_and_seeds_have_their_own_order():
    orders = [epoch_order(50, seed=seed, epoch=epoch, shuffle=True).tolist() for seed in (1, 2) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 6
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_the_order_never_changes():
    # A checkpoint is resumed after an upgrade of numpy: these numbers may not move.
    assert epoch_order(10, seed=42, epoch=0, shuffle=True).tolist() == FROZEN[0]
    assert epoch_order(10, seed=42, epoch=1, shuffle=True).tolist() == FROZEN[1]


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    before = epoch_order(100, seed=7, epoch=3, shuffle=True)
    np.random.seed(0)
    np.random.rand(5)
    np.testing.assert_array_equal(epoch_order(100, seed=7, epoch=3, shuffle=True), before)


def test_sampler_pickles():
    sampler = StepBatchSampler(20, batch_size=3, num_processes=2, rank=1)
    sampler.set_epoch(2)
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)


def test_no_such_step():
    with pytest.raises(AssertionError, match="an epoch of 2 steps has no step 2"):
        StepBatchSampler(5, batch_size=4).micro_batches_in_step(2)


def test_fillers_are_rows_marked_as_padding():
    rows = TrainingRows([{"id": "a"}, {"id": "b"}])
    assert len(rows) == 2
    assert rows[1] == {"id": "b"}
    assert rows[-1] == {"id": "a", "padding": True}
    assert rows[filler_index(1)] == {"id": "b", "padding": True}
    assert rows.rows == [{"id": "a"}, {"id": "b"}]
