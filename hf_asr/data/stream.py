"""What a stream is: sources of shards, an order of their places, and the row at a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, Protocol

import datasets
import numpy as np

from hf_asr.data.stream_order import Place, Shuffle, dealt, places
from hf_asr.errors import UserError
from hf_asr.utterance import Seconds

# How many shards a table is cut into: the largest that leaves each CLIPS_A_SHARD clips.
SHARDS = (960, 240, 48, 12)
CLIPS_A_SHARD = 32
FEW = SHARDS[-1] * CLIPS_A_SHARD

Range = tuple[int, int, int]
Row = dict[str, Any]


class StreamSource(Protocol):
    """What a stream is made of: shards, each with rows."""

    by_shard: bool
    failed: dict[str, str]
    drops: list[tuple[str, str]]

    @property
    def num_shards(self) -> int:
        """How many shards there are."""

    @property
    def expected(self) -> int | None:
        """How many clips there are, or at most; None where nobody knows."""

    def size(self, index: int) -> int:
        """Return the clips of a shard."""

    def promised(self, index: int) -> int:
        """Return the clips that a shard has at most."""

    def seconds(self, index: int, row: int) -> Seconds | None:
        """Return the length of a clip; None where it is not known."""

    def soon(self, index: int) -> None:
        """Be told that a shard is the next."""

    def row(self, index: int, row: int) -> Row:
        """Return a clip's row."""


class ListedSource:
    """A source whose clips are listed in a table.

    In order a shard is a stretch of the table. Otherwise it goes through the whole table in large steps, so that a
    corpus sorted by speaker is mixed further than a buffer reaches.

    Args:
        table: Rows of ``ROW_TYPES``.
        in_order: Whether the order of the corpus is kept.
    """

    by_shard = False

    def __init__(self, table: datasets.Dataset, in_order: bool) -> None:
        self.table = table
        self.ranges = [range(*shard) for shard in shards_of(len(table), in_order)]
        self.failed: dict[str, str] = {}
        self.drops: list[tuple[str, str]] = []
        self._seconds: np.ndarray | None = None

    @property
    def num_shards(self) -> int:
        """How many parts the table is cut into."""
        return len(self.ranges)

    @property
    def expected(self) -> int:
        """How many clips there are."""
        return len(self.table)

    def size(self, index: int) -> int:
        """Return the clips of a part."""
        return len(self.ranges[index])

    promised = size

    def seconds(self, index: int, row: int) -> Seconds | None:
        """Return the length of a clip; None where the list does not tell."""
        if self._seconds is None:
            blocks = self.table.select_columns("duration").iter(batch_size=10_000)
            lengths = (np.nan if value is None else value for block in blocks for value in block["duration"])
            self._seconds = np.fromiter(lengths, np.float64, len(self.table))
        found = float(self._seconds[self.ranges[index][row]])
        return None if np.isnan(found) else found

    def soon(self, index: int) -> None:
        """Do nothing: all of it is there."""

    def row(self, index: int, row: int) -> Row:
        """Return a clip's row."""
        found: Row = self.table[self.ranges[index][row]]
        return found


class Stream:
    """A training split that is read while training.

    Iterating gives its rows in the order of the first epoch, for those who want to look at some.

    Args:
        sources: What it is made of.
        how: Seed, buffer and weights.
        limit: Most clips of an epoch.
        max_seconds: What a clip of unknown length is taken for.
    """

    def __init__(
        self, sources: Sequence[StreamSource], how: Shuffle, *, limit: int | None = None, max_seconds: Seconds = 30.0
    ) -> None:
        self.sources = list(sources)
        self.how = how
        self.limit = limit
        self.max_seconds = max_seconds

    @property
    def by_shard(self) -> bool:
        """Whether processes read shards of their own."""
        return any(source.by_shard for source in self.sources)

    def shards(self) -> list[int]:
        """Return how many shards each source has."""
        return [source.num_shards for source in self.sources]

    def size(self, source: int, shard: int) -> int:
        """Return the clips of a shard; the one behind it is opened meanwhile."""
        return self.sources[source].size(shard)

    def soon(self, source: int, shard: int) -> None:
        """Have a shard opened in the background."""
        self.sources[source].soon(shard)

    def places(self, epoch: int, *, reader: int = 0, readers: int = 1) -> Iterator[Place]:
        """Yield the places of an epoch that one reader takes, at most its part of ``limit``."""
        found = places(self, self.how, epoch, reader=reader, readers=readers)
        return found if self.limit is None else islice(found, len(range(reader, self.limit, readers)))

    def row(self, place: Place) -> Row:
        """Return the row at a place."""
        source, shard, row = place
        return self.sources[source].row(shard, row)

    def seconds(self, found: Sequence[Place]) -> list[Seconds]:
        """Return the length of the clips at some places; one that is not known is taken for the longest."""
        lengths = (self.sources[source].seconds(shard, row) for source, shard, row in found)
        return [self.max_seconds if length is None else length for length in lengths]

    def __iter__(self) -> Iterator[Row]:
        return (self.row(place) for place in self.places(0))

    @property
    def expected(self) -> int | None:
        """Return how many clips an epoch has at most, as far as lists and shards tell.

        Of a mixture by weight: so many as come, on average, until the first source has no more.
        """
        sizes = [source.expected for source in self.sources]
        if None in sizes:
            return self.limit
        known = [size for size in sizes if size is not None]
        if self.how.weights:
            total = sum(self.how.weights)
            number = round(min(size * total / weight for size, weight in zip(known, self.how.weights, strict=True)))
        else:
            number = sum(known)
        return number if self.limit is None else min(number, self.limit)

    def check_length(self, max_steps: int) -> int | None:
        """Return ``expected``; see that it is known where no number of steps says when training ends.

        Raises:
            UserError: It is not.
        """
        if self.expected is None and max_steps <= 0:
            raise UserError(
                "data.streaming: nothing tells how many clips these shards hold: expected training.max_steps, or "
                "data.limit.train with their number, found neither. Set one of them."
            )
        return self.expected

    def promised(self, readers: int, epoch: int) -> list[int]:
        """Return how many clips each reader gets in an epoch, by what shards say of themselves; not of a mixture."""
        sizes = [[source.promised(index) for index in range(source.num_shards)] for source in self.sources]
        found = [
            sum(sizes[s][i] for s, i in dealt(sizes, self.how, epoch, reader, readers)) for reader in range(readers)
        ]
        most = [len(range(reader, self.limit, readers)) for reader in range(readers)] if self.limit else found
        return [min(pair) for pair in zip(found, most, strict=True)]

    @property
    def is_exact(self) -> bool:
        """Whether ``expected`` is what every epoch has, to the clip."""
        return not self.by_shard and not self.how.weights

    def take_drops(self) -> list[tuple[str, str]]:
        """Return (id, "reason: detail") of what was left out of shards opened since the last time."""
        found = [item for source in self.sources for item in source.drops]
        for source in self.sources:
            source.drops = []
        return found

    @property
    def failed(self) -> dict[str, str]:
        """Return the shards that could not be had, and why."""
        return {name: reason for source in self.sources for name, reason in source.failed.items()}

    def leave_out(self, failed: dict[str, str]) -> None:
        """Go on without the shards that were left out before this resume: with them the order would be another."""
        for source in self.sources:
            source.failed = dict(failed)

    def dealing(self, processes: int, workers: int) -> str:
        """Say how many shards there are for so many processes, and what is lost when they do not divide evenly.

        Args:
            processes: How many train.
            workers: Loader workers of each.
        """
        each = f"{processes} process{'es' * (processes != 1)} x {workers} worker{'s' * (workers != 1)}"
        if not self.by_shard:
            return f"a list for {each}, who share one order: any number of them will do"
        groups = self.shards() if self.how.weights else [sum(self.shards())]
        least = sum(number // processes for number in groups)
        most = sum(-(-number // processes) for number in groups)
        idle = 1 - sum(groups) / (processes * most)
        share = f"{least}" if least == most else f"{least} to {most}"
        lost = f"; with shards of equal size {idle:.1%} of an epoch's steps count nothing" if idle else ""
        return f"{sum(groups)} shards for {each}, {share} a process (workers need none of their own){lost}"

    def check_readers(self, readers: int) -> None:
        """See that every process has a shard.

        Raises:
            UserError: There are more processes than shards.
        """
        fewest = min(self.shards()) if self.how.weights else sum(self.shards())
        if self.by_shard and fewest < readers:
            raise UserError(
                f"data.streaming: expected at least one shard for each of {readers} processes, found {fewest} "
                f"shard{'s' * (fewest != 1)}{' in a source with a weight' * bool(self.how.weights)}. Use at most "
                f"{fewest} process{'es' * (fewest != 1)}, or cut the corpus into {readers} shards or more."
            )


def shards_of(size: int, in_order: bool) -> list[Range]:
    """Cut a table into ranges (first, stop, step) whose sizes differ by one at most.

    In order, each is a stretch. Otherwise each goes through the whole table.
    """
    number = next((number for number in SHARDS if size >= number * CLIPS_A_SHARD), SHARDS[-1])
    if not in_order:
        return [(first, size, number) for first in range(number)]
    ends = [shard * (size // number) + min(shard, size % number) for shard in range(number + 1)]
    return [(first, stop, 1) for first, stop in pairwise(ends)]
