"""Batches of clips of like length, bounded by their padded seconds: memory near constant, hardly any padding.

Clips are sorted into buckets by length. Every epoch shuffles within each bucket, cuts it into batches and shuffles the
batches of all buckets; the number of batches is the same in every epoch, since buckets do not change. An optimiser
step takes the next ``accumulation * num_processes`` batches, so that, as with
:class:`hf_asr.data.sampling.StepBatchSampler`, the clips of a step do not depend on how it is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from torch.utils.data import Sampler

from hf_asr.data.sampling import Epoch, epoch_order, filler_index
from hf_asr.errors import UserError
from hf_asr.utterance import Seconds

# A bucket's clips are at least this share of its longest: about 5 % of a batch is padding.
NARROW = 0.9
# A bucket that would give fewer batches takes shorter clips as well: each bucket ends with a batch that is not full.
FEWEST_BATCHES = 4

Clip = TypeVar("Clip")


def cut_buckets(seconds: np.ndarray, batch_seconds: Seconds) -> list[np.ndarray]:
    """Sort clips into buckets.

    Args:
        seconds: (N,) length of each clip.
        batch_seconds: Most padded seconds of a batch.

    Returns:
        Indices of each bucket's clips, the bucket of the longest first, longest clips first.
    """
    order = np.argsort(-seconds, kind="stable")
    buckets, first = [], 0
    while first < len(order):
        longest = float(seconds[order[first]])
        narrow = int(np.searchsorted(-seconds[order], -NARROW * longest, side="right"))
        end = max(narrow, first + FEWEST_BATCHES * clips_in_batch(longest, batch_seconds))
        buckets.append(order[first:end])
        first = end
    return buckets


def clips_in_batch(longest: Seconds, batch_seconds: Seconds) -> int:
    """Return how many clips, padded to ``longest``, a batch of ``batch_seconds`` holds."""
    return max(1, int(batch_seconds / max(longest, 1e-6) + 1e-9))


def check_longest(longest: Seconds, batch_seconds: Seconds, what: str = "the longest clip of train") -> None:
    """See that a batch can hold what is longest.

    Args:
        longest: Its padded seconds.
        batch_seconds: A batch's.
        what: What it is, in words.

    Raises:
        UserError: It cannot.
    """
    if longest > batch_seconds:
        raise UserError(
            f"data.batch_seconds: expected at least {what}, {longest:.2f} s, found {batch_seconds:g}. Raise it, or "
            "leave long clips out with data.max_seconds. In a Whisper's full window, which data.pack fills and "
            "model.window_mix gives to some batches, all clips are equally long."
        )


class BucketBatchSampler(Sampler[list[int]]):
    """One process's micro-batches of clips of like length.

    It is deterministic, holds no iterator state and pickles. Where a step has more micro-batches than there are left,
    the last ones are fillers: one negative index, see :class:`hf_asr.data.sampling.TrainingRows`.

    Args:
        seconds: Length of each clip.
        batch_seconds: Most padded seconds of a micro-batch: its clips times its longest.
        accumulation: Micro-batches of a step, on each process.
        num_processes: P.
        rank: This process, from 0.
        seed: ``experiment.seed``.
        shuffle: Whether every epoch has its own random order; otherwise batches are cut from the rows as they stand.
        told: Is told every epoch that begins.

    Raises:
        UserError: A clip is longer than a batch may be.
    """

    def __init__(
        self,
        seconds: Sequence[Seconds],
        *,
        batch_seconds: Seconds,
        accumulation: int = 1,
        num_processes: int = 1,
        rank: int = 0,
        seed: int = 42,
        shuffle: bool = True,
        told: Epoch | None = None,
    ) -> None:
        assert len(seconds) > 0 and min(accumulation, num_processes) > 0 and 0 <= rank < num_processes
        self.seconds = np.asarray(seconds, dtype=np.float64)
        check_longest(float(self.seconds.max()), batch_seconds)
        self.batch_seconds = batch_seconds
        self.accumulation = accumulation
        self.num_processes = num_processes
        self.rank = rank
        self.seed = seed
        self.shuffle = shuffle
        self.told = told
        self.epoch = 0
        self.buckets = cut_buckets(self.seconds, batch_seconds) if shuffle else []
        self.num_batches = len(self.batches(0))

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration follow the order of ``epoch``."""
        self.epoch = epoch
        if self.told is not None:
            self.told.set(epoch)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return the batches of an epoch over all processes, in the order in which they are trained on."""
        if not self.shuffle:
            return [np.asarray(batch) for batch in filled(enumerate(self.seconds.tolist()), self.batch_seconds)]
        pieces: list[np.ndarray] = []
        for number, bucket in enumerate(self.buckets):
            size = clips_in_batch(float(self.seconds[bucket[0]]), self.batch_seconds)
            mixed = bucket[_permutation(len(bucket), self.seed, epoch, number + 1)]
            pieces += np.array_split(mixed, -(-len(bucket) // size))
        return [pieces[place] for place in epoch_order(len(pieces), seed=self.seed, epoch=epoch, shuffle=True)]

    def padding(self, epoch: int = 0) -> float:
        """Return which share of an epoch's padded seconds is padding."""
        padded = sum(len(batch) * float(self.seconds[batch].max()) for batch in self.batches(epoch))
        return 1 - float(self.seconds.sum()) / padded

    @property
    def batches_in_step(self) -> int:
        """Micro-batches of a full optimiser step, over all processes."""
        return self.accumulation * self.num_processes

    def __len__(self) -> int:
        """Micro-batches of this rank in an epoch; the same for all ranks and epochs."""
        steps, left = divmod(self.num_batches, self.batches_in_step)
        return steps * self.accumulation + -(-left // self.num_processes)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's micro-batches of the current epoch."""
        batches = self.batches(self.epoch)
        filler = [filler_index(int(batches[0][0]))]
        for place in range(len(self)):
            mine = place * self.num_processes + self.rank
            yield batches[mine].tolist() if mine < len(batches) else filler


def filled(clips: Iterable[tuple[Clip, Seconds]], batch_seconds: Seconds) -> Iterator[list[Clip]]:
    """Cut clips, each with its length, as they come into batches that are as full as they can be."""
    batch: list[Clip] = []
    longest = 0.0
    for clip, length in clips:
        longest = max(longest, length)
        if batch and (len(batch) + 1) * longest > batch_seconds:
            yield batch
            batch, longest = [], length
        batch.append(clip)
    if batch:
        yield batch


def _permutation(number: int, seed: int, epoch: int, bucket: int) -> np.ndarray:
    bits = np.random.MT19937(np.random.SeedSequence([seed, epoch, bucket]))
    return np.random.RandomState(bits).permutation(number)
