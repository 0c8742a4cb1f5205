"""Which examples an optimiser step takes: a function of seed, epoch and step, never of how the step is cut.

Batch size, accumulation and processes only decide who computes what. Two runs with equal
``batch_size * accumulation * num_processes`` take the same steps, a run that resumes takes the steps that were left,
and every example comes exactly once an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler


class Rows(Protocol):
    """What has a length and gives a row by its index, like a ``datasets.Dataset``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Epoch:
    """The epoch now, a number in shared memory: loader workers that live on, or read ahead, see it change."""

    def __init__(self) -> None:
        self._number = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def value(self) -> int:
        """Counted from 0."""
        return int(self._number)

    def set(self, epoch: int) -> None:
        """Tell every process."""
        self._number.fill_(epoch)


def epoch_order(num_examples: int, *, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """Return the order in which an epoch takes the examples.

    Args:
        num_examples: Examples of the split.
        seed: ``experiment.seed``, 0 or above.
        epoch: Epoch, counted from 0.
        shuffle: Whether to permute; otherwise the order is that of the rows.

    Returns:
        Indices (num_examples,), int64. ``RandomState`` is numpy's only generator whose numbers are promised never to
        change (NEP 19), so a checkpoint may be resumed under another numpy.
    """
    if not shuffle:
        return np.arange(num_examples, dtype=np.int64)
    bits = np.random.MT19937(np.random.SeedSequence([seed, epoch]))
    return np.random.RandomState(bits).permutation(num_examples).astype(np.int64)


class StepBatchSampler(Sampler[list[int]]):
    """One process's micro-batches, cut so that every optimiser step takes the next examples of the epoch's order.

    With B clips in a micro-batch, A micro-batches accumulated and P processes, a step takes the next ``B * A * P``
    examples. Micro-batch ``a`` of rank ``r`` gets ``step[(a * P + r) * B : (a * P + r + 1) * B]``. The epoch's last
    step may have fewer, n: all ranks then have ``ceil(n / (B * P))`` micro-batches, and the n examples are spread
    evenly over them. Where there are more micro-batches than examples, the last ones are fillers, so that no rank
    waits for the others: a filler is one negative index, see :class:`TrainingRows`.

    It is deterministic, holds no iterator state and pickles; ``accelerate.skip_first_batches`` skips what a resumed
    epoch has already taken without reading it.

    Args:
        num_examples: Examples of the split.
        batch_size: B.
        accumulation: A.
        num_processes: P.
        rank: This process, from 0.
        seed: ``experiment.seed``.
        shuffle: Whether every epoch has its own random order.
        told: Is told every epoch that begins; rows that change with the epoch read it. Through the sampler, because a
            resumed epoch has another loader (``skip_first_batches``), and that one tells its sampler alone.
    """

    def __init__(
        self,
        num_examples: int,
        *,
        batch_size: int,
        accumulation: int = 1,
        num_processes: int = 1,
        rank: int = 0,
        seed: int = 42,
        shuffle: bool = True,
        told: Epoch | None = None,
    ) -> None:
        assert min(num_examples, batch_size, accumulation, num_processes) > 0
        assert 0 <= rank < num_processes
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.accumulation = accumulation
        self.num_processes = num_processes
        self.rank = rank
        self.seed = seed
        self.shuffle = shuffle
        self.told = told
        self.epoch = 0

    @property
    def examples_in_step(self) -> int:
        """Examples that a full optimiser step takes over all processes."""
        return self.batch_size * self.accumulation * self.num_processes

    @property
    def num_steps(self) -> int:
        """Optimiser steps of an epoch, a last partial one included."""
        return -(-self.num_examples // self.examples_in_step)

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration follow the order of ``epoch``."""
        self.epoch = epoch
        if self.told is not None:
            self.told.set(epoch)

    def micro_batches_in_step(self, step: int) -> int:
        """Return how many micro-batches every rank has in the epoch's optimiser step ``step``, counted from 0."""
        assert 0 <= step < self.num_steps, f"an epoch of {self.num_steps} steps has no step {step}"
        left = min(self.num_examples - step * self.examples_in_step, self.examples_in_step)
        return -(-left // (self.batch_size * self.num_processes))

    def __len__(self) -> int:
        """Micro-batches of this rank in an epoch; the same for all ranks."""
        return (self.num_steps - 1) * self.accumulation + self.micro_batches_in_step(self.num_steps - 1)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's micro-batches of the current epoch."""
        order = epoch_order(self.num_examples, seed=self.seed, epoch=self.epoch, shuffle=self.shuffle)
        for step in range(self.num_steps):
            taken = order[step * self.examples_in_step : (step + 1) * self.examples_in_step]
            # array_split gives the first pieces one more; a full step is cut into pieces of exactly B.
            pieces = np.array_split(taken, self.micro_batches_in_step(step) * self.num_processes)
            for piece in pieces[self.rank :: self.num_processes]:
                yield piece.tolist() or [filler_index(int(taken[0]))]


def filler_index(index: int) -> int:
    """Return the negative index that stands for example ``index`` with all its labels ignored; it undoes itself."""
    return -(index + 1)


class TrainingRows(Dataset[dict[str, Any]]):
    """A split's rows by index, and fillers by negative index.

    ``rows[i]`` is the row; ``rows[-(i + 1)]`` is row ``i`` with ``"padding": True`` added, which the collator turns
    into a clip with features and no labels. Negative indices therefore do not count from the end.

    Args:
        rows: Map-style rows that are dictionaries.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= 0:
            return self.rows[index]
        return {**self.rows[filler_index(index)], "padding": True}
