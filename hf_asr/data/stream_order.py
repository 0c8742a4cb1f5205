"""The order of a stream: places of clips, a function of seed, epoch and reader alone.

Nothing here reads a clip. What a shuffle buffer or a bucket holds are places, (source, shard, row), so the order can be
gone through again from its beginning to wherever a run was stopped: no buffer has to be saved, and none is lost.

``RandomState`` over ``MT19937`` is numpy's only generator whose numbers are promised never to change (NEP 19).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

import numpy as np

from hf_asr.data.buckets import clips_in_batch, cut_buckets, filled
from hf_asr.errors import UserError
from hf_asr.utterance import Seconds

# Where a clip is: source, shard of that source, row of that shard.
Place = tuple[int, int, int]
# Numbers drawn at once: 0.1 us each instead of 3.
DRAWN = 4096
# Lengths asked for at once where no buffer says how many.
AT_ONCE = 1000
# What a generator is for, beside seed and epoch.
SHARDS, SOURCES, BUFFER, BUCKETS = range(1, 5)


class Catalogue(Protocol):
    """Which shards there are, and how many rows each has; asking for the rows may open a shard."""

    def shards(self) -> Sequence[int]:
        """Return how many shards each source has."""

    def size(self, source: int, shard: int) -> int:
        """Return the rows of a shard."""

    def soon(self, source: int, shard: int) -> None:
        """Be told that a shard is the next."""


@dataclass(frozen=True)
class Shuffle:
    """What an epoch's order depends on, beside the epoch and the reader.

    Attributes:
        seed: ``experiment.seed``.
        buffer: Places among which one is drawn; 0 or 1 keeps the order of the corpus.
        weights: Of each source; empty when every clip comes once.
    """

    seed: int
    buffer: int
    weights: tuple[float, ...] = ()

    @property
    def in_order(self) -> bool:
        """Whether the order is that of the corpus in every epoch."""
        return self.buffer <= 1

    def random(self, epoch: int, purpose: int, reader: int = 0) -> np.random.RandomState:
        """Return the generator of one purpose."""
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([self.seed, epoch, purpose, reader])))


def places(catalogue: Catalogue, how: Shuffle, epoch: int, *, reader: int = 0, readers: int = 1) -> Iterator[Place]:
    """Yield the places of an epoch that one reader takes.

    Shards are put into a random order and dealt to the readers, shard after shard; each reader draws from a buffer.
    Sources with weights are drawn by them until the first one drawn has nothing left; without weights all shards are
    dealt together, so that every clip comes exactly once.

    Args:
        catalogue: The shards.
        how: Seed, buffer and weights.
        epoch: Epoch, counted from 0.
        reader: This reader, from 0.
        readers: How many there are.
    """
    sources = [range(number) for number in catalogue.shards()]
    if how.weights:
        mine = list(dealt(sources, how, epoch, reader, readers))
        rows = [_rows(catalogue, [at for at in mine if at[0] == source]) for source in range(len(sources))]
        found = _drawn(rows, how.weights, how.random(epoch, SOURCES, reader))
    else:
        found = _rows(catalogue, dealt(sources, how, epoch, reader, readers))
    return found if how.in_order else _buffered(found, how.buffer, how.random(epoch, BUFFER, reader))


def batches_of(found: Iterator[Place], size: int) -> Iterator[list[Place]]:
    """Yield batches of ``size`` clips, the last with what is left."""
    while batch := list(islice(found, size)):
        yield batch


def bucketed(
    found: Iterator[Place], seconds: Callable[[list[Place]], list[Seconds]], most: Seconds, how: Shuffle, epoch: int
) -> Iterator[list[Place]]:
    """Yield batches of clips of like length, of at most ``most`` padded seconds.

    So many clips as the buffer holds are sorted into buckets at once, cut, and their batches shuffled. In order,
    batches are cut from the clips as they come.

    Args:
        found: The epoch's places.
        seconds: Gives the padded length of each of some places.
        most: ``data.batch_seconds``.
        how: Seed and buffer.
        epoch: Epoch, for the order of the batches.

    Raises:
        UserError: A clip is longer than a batch may be.
    """
    clips = _with_lengths(found, seconds, most, max(how.buffer, AT_ONCE if how.in_order else 1))
    if how.in_order:
        yield from filled(chain.from_iterable(clips), most)
        return
    random = how.random(epoch, BUCKETS)
    for window in clips:
        lengths = np.asarray([length for _, length in window])
        yield from ([window[index][0] for index in batch] for batch in _mixed(lengths, most, random))


def _with_lengths(
    found: Iterator[Place], seconds: Callable[[list[Place]], list[Seconds]], most: Seconds, at_once: int
) -> Iterator[list[tuple[Place, Seconds]]]:
    while window := list(islice(found, at_once)):
        lengths = seconds(window)
        if max(lengths) > most:
            raise UserError(
                f"data.batch_seconds: expected at least the longest clip of train, found {most:g} and a clip of "
                f"{max(lengths):.2f} s. Raise it, or leave long clips out with data.max_seconds."
            )
        yield list(zip(window, lengths, strict=True))


def dealt(
    sources: Sequence[Sequence[object]], how: Shuffle, epoch: int, reader: int, readers: int
) -> list[tuple[int, int]]:
    """Return the (source, shard) that a reader goes through; with weights they are dealt source by source."""
    random = how.random(epoch, SHARDS)
    shards = [[(source, shard) for shard in range(len(found))] for source, found in enumerate(sources)]
    found = []
    for group in shards if how.weights else [list(chain(*shards))]:
        order = range(len(group)) if how.in_order else random.permutation(len(group)).tolist()
        found += [group[index] for index in order][reader::readers]
    return found


def _rows(catalogue: Catalogue, shards: Sequence[tuple[int, int]]) -> Iterator[Place]:
    for index, (source, shard) in enumerate(shards):
        rows = catalogue.size(source, shard)
        for following in shards[index + 1 : index + 2]:
            catalogue.soon(*following)
        for row in range(rows):
            yield source, shard, row


def _drawn(
    sources: Sequence[Iterator[Place]], weights: Sequence[float], random: np.random.RandomState
) -> Iterator[Place]:
    shares = np.asarray(weights, dtype=np.float64) / sum(weights)
    while True:
        for source in random.choice(len(sources), size=DRAWN, p=shares).tolist():
            place = next(sources[source], None)
            if place is None:
                return
            yield place


def _buffered(found: Iterator[Place], size: int, random: np.random.RandomState) -> Iterator[Place]:
    """Yield in a random order that looks ``size`` places ahead."""
    held = list(islice(found, size))
    drawn: list[int] = []
    for place in found:
        if not drawn:
            drawn = random.randint(size, size=DRAWN).tolist()
        index = drawn.pop()
        yield held[index]
        held[index] = place
    yield from (held[index] for index in random.permutation(len(held)).tolist())


def _mixed(lengths: np.ndarray, most: Seconds, random: np.random.RandomState) -> list[np.ndarray]:
    batches: list[np.ndarray] = []
    for bucket in cut_buckets(lengths, most):
        size = clips_in_batch(float(lengths[bucket[0]]), most)
        batches += np.array_split(bucket[random.permutation(len(bucket))], -(-len(bucket) // size))
    return [batches[index] for index in random.permutation(len(batches)).tolist()]
