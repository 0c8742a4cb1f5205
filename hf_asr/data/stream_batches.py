"""Which places of a stream a process takes in each micro-batch: a function of seed, epoch and step.

A listed stream has one order for all processes: a step takes the next clips of it, cut as
:class:`hf_asr.data.sampling.StepBatchSampler` cuts them, so that the loss does not depend on how many processes there
are. Of a stream of shards every process goes through its own; who has no more gets fillers from the trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import Sampler

from hf_asr.data.buckets import check_longest, clips_in_batch
from hf_asr.data.sampling import Epoch
from hf_asr.data.stream import Stream
from hf_asr.data.stream_order import Place, batches_of, bucketed
from hf_asr.utterance import Seconds

# Stands for a clip that is none: it gives a process a batch whose loss counts nothing.
FILLER: Place = (-1, -1, -1)

Lengths = Callable[[list[Seconds]], list[Seconds]]
Windows = Callable[[Iterator[Place]], Iterator[tuple[Place, ...]]]


class StreamBatchSampler(Sampler[list[Place]]):
    """One process's micro-batches of a stream.

    It is deterministic, holds no iterator state and pickles; ``accelerate.skip_first_batches`` goes through what a
    resumed epoch has already taken without reading it.

    Args:
        stream: The stream.
        batch_size: Clips of a micro-batch.
        batch_seconds: Most padded seconds of a micro-batch, in place of ``batch_size``; all windows are equally long.
        padded: Turns lengths into padded ones; needed with ``batch_seconds``.
        windows: Joins places to windows, each of which then stands for a clip.
        accumulation: Micro-batches of a step, on each process.
        num_processes: P.
        rank: This process, from 0.
        told: Is told every epoch that begins.

    Raises:
        UserError: There are more processes than shards, or not one window fits into ``batch_seconds``.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        batch_size: int,
        batch_seconds: Seconds | None = None,
        padded: Lengths | None = None,
        windows: Windows | None = None,
        accumulation: int = 1,
        num_processes: int = 1,
        rank: int = 0,
        told: Epoch | None = None,
    ) -> None:
        assert min(batch_size, accumulation, num_processes) > 0 and 0 <= rank < num_processes
        assert batch_seconds is None or padded is not None
        stream.check_readers(num_processes)
        self.stream = stream
        if windows is not None and batch_seconds is not None and padded is not None:
            batch_size, batch_seconds = windows_in(batch_seconds, *padded([0.0])), None
        self.batch_size = batch_size
        self.batch_seconds = batch_seconds
        self.padded = padded
        self.windows = windows
        self.accumulation = accumulation
        self.num_processes = num_processes
        self.rank = rank
        self.told = told
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration follow the order of ``epoch``."""
        self.epoch = epoch
        if self.told is not None:
            self.told.set(epoch)

    def __iter__(self) -> Iterator[list[Place]]:
        """Yield this rank's micro-batches of the current epoch."""
        mine = self.stream.places(self.epoch, reader=self.rank, readers=self.num_processes)
        if self.stream.by_shard:
            yield from self.cut(self.items(mine))
        elif self.batch_seconds is None:
            yield from self._parts_of_steps(self.items(self.stream.places(self.epoch)))
        else:
            yield from self._every_so_many(self.cut(self.stream.places(self.epoch)))

    def items(self, found: Iterator[Place]) -> Iterator[Any]:
        """Return the places, or the windows that they are joined to."""
        return found if self.windows is None else self.windows(found)

    def cut(self, found: Iterator[Place]) -> Iterator[list[Place]]:
        """Cut places into micro-batches."""
        if self.batch_seconds is None:
            return batches_of(found, self.batch_size)
        return bucketed(found, self._lengths, self.batch_seconds, self.stream.how, self.epoch)

    def steps(self, epoch: int) -> int:
        """Return how many steps an epoch has, going through its order; of a stream that is listed.

        Of shards, or by weight, it is what their numbers of clips promise.
        """
        if self.windows is not None and not self.stream.by_shard:
            items = sum(1 for _ in self.items(self.stream.places(epoch)))
            return -(-items // (self.batch_size * self.accumulation * self.num_processes))
        clips = self.clips_in_batch()
        if self.stream.by_shard and not self.stream.how.weights:
            return -(-max(self.stream.promised(self.num_processes, epoch)) // (clips * self.accumulation))
        if self.batch_seconds is not None and self.stream.is_exact:
            before, self.epoch = self.epoch, epoch
            batches = sum(1 for _ in self.cut(self.stream.places(epoch)))
            self.epoch = before
            return -(-batches // (self.accumulation * self.num_processes))
        return -(-(self.stream.expected or 0) // (clips * self.accumulation * self.num_processes))

    def clips_in_batch(self) -> int:
        """Return how many clips a micro-batch has; with ``batch_seconds``, in the first thousand clips on average."""
        if self.batch_seconds is None and self.windows is None:
            return self.batch_size
        some = list(islice(self.stream.places(0, reader=self.rank, readers=self.num_processes), 1000))
        batches = list(self.cut(self.items(iter(some))))
        return max(1, round(len(some) / max(1, len(batches))))

    def _lengths(self, found: list[Place]) -> list[Seconds]:
        assert self.padded is not None
        return self.padded(self.stream.seconds(found))

    def _parts_of_steps(self, found: Iterator[Place]) -> Iterator[list[Place]]:
        in_step = self.batch_size * self.accumulation * self.num_processes
        while step := list(islice(found, in_step)):
            number = -(-len(step) // (self.batch_size * self.num_processes)) * self.num_processes
            for piece in range(self.rank, number, self.num_processes):
                yield _piece(step, piece, number) or [FILLER]

    def _every_so_many(self, batches: Iterator[list[Place]]) -> Iterator[list[Place]]:
        while step := list(islice(batches, self.num_processes)):
            yield step[self.rank] if self.rank < len(step) else [FILLER]


def windows_in(batch_seconds: Seconds, window: Seconds) -> int:
    """Return how many windows a batch holds.

    Raises:
        UserError: Not one.
    """
    check_longest(window, batch_seconds, "the model's window")
    return clips_in_batch(window, batch_seconds)


def _piece(step: list[Place], piece: int, number: int) -> list[Place]:
    """Return one of ``number`` pieces of a step; the first have one more, as numpy.array_split gives them."""
    size, more = divmod(len(step), number)
    first = piece * size + min(piece, more)
    return step[first : first + size + (piece < more)]
