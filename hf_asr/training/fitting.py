"""The largest ``data.batch_seconds`` that fits into memory: worst batches, tried or forecast, and a binary search.

A batch of so many padded seconds takes most memory either with the longest clips or, since every label token has its
own states, with those that say most in a second. On a GPU such batches are run. On a CPU running out of memory would
end more than this program: there one clip and two are run, and what autograd keeps grows with the clips in proportion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_asr.data.buckets import clips_in_batch
from hf_asr.features.collate import Collator
from hf_asr.models.losses import TOKENS, Loss
from hf_asr.training.forecast import fixed_bytes, measure_step
from hf_asr.utterance import Seconds

# Gradients of activations and the buffers of matrix products come on top of what autograd keeps. The peak of a step of
# whisper-tiny's dimensions was 0.79 to 1.27 times what is kept (benchmarks/above_kept.py, on a CPU), and 1.32 to 1.90
# times where the model gives its B x L x V logits: their two gradients are each as large as they are.
ABOVE_KEPT = 1.35
ABOVE_KEPT_WITH_LOGITS = 2.0
# Left free for what other programs and the allocator's gaps take.
USABLE = 0.9


@dataclass(frozen=True)
class WorstClip:
    """A clip of which a batch may be full.

    Attributes:
        padded: What it takes of ``data.batch_seconds``.
        frames: Frames of its features.
        labels: Its labels.
    """

    padded: Seconds
    frames: int
    labels: tuple[Any, ...]

    def rows(self, number: int, feature_size: int) -> list[dict[str, Any]]:
        """Return encoded rows of that many such clips, silent ones."""
        features = np.zeros((self.frames, feature_size), dtype=np.float16)
        row = {"input_features": features, "labels": list(self.labels), "error": ""}
        return [row | {"id": str(index)} for index in range(number)]


def worst_clips(padded: Sequence[Seconds], frames: Sequence[int], labels: Sequence[Sequence[Any]]) -> list[WorstClip]:
    """Return the longest clip, the one with the most labels, and the one with the most labels a padded second."""
    clips = [WorstClip(*values[:2], tuple(values[2])) for values in zip(padded, frames, labels, strict=True)]
    orders: tuple[Callable[[WorstClip], Any], ...] = (
        lambda clip: (clip.padded, len(clip.labels)),
        lambda clip: (len(clip.labels), clip.padded),
        lambda clip: len(clip.labels) / clip.padded,
    )
    return list(dict.fromkeys(max(clips, key=order) for order in orders))


def largest_that_fits(needs: Callable[[int], int], limit: int, least: int, most: int) -> int | None:
    """Find the largest whole number of seconds whose need stays within a limit.

    Args:
        needs: Seconds to bytes; never falls.
        limit: Bytes that there are.
        least: Smallest number that makes sense, the longest clip.
        most: Largest number that makes sense, all clips in one batch.

    Returns:
        The number; None when not even ``least`` fits.
    """
    if needs(least) > limit:
        return None
    low, high = least, max(least, most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needs(middle) <= limit else (low, middle - 1)
    return low


class Needs:
    """Seconds of a batch to the bytes that training takes with it.

    Args:
        model: As it will be trained.
        loss: The family's.
        collate: Its collator for training.
        clips: From :func:`worst_clips`.
        feature_size: F.
        training: The Trainer's arguments.
        head: Head that works the loss out in chunks; None for one that does not.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        collate: Collator,
        clips: Sequence[WorstClip],
        feature_size: int,
        training: Any,
        head: str | None,
    ) -> None:
        self.model, self.loss, self.collate = model, loss, collate
        self.clips, self.feature_size = clips, feature_size
        self.training, self.head = training, head
        self.above = ABOVE_KEPT_WITH_LOGITS if loss is TOKENS and head is None else ABOVE_KEPT
        self.fixed = fixed_bytes(model)
        self.on_gpu = training.device.type == "cuda"
        self.kept: dict[WorstClip, tuple[int, int]] = {}

    def __call__(self, seconds: int) -> int:
        """Return the bytes of the worst batch, weights, gradients and optimiser states included."""
        return max(self._of(clip, clips_in_batch(clip.padded, seconds)) for clip in self.clips)

    def _of(self, clip: WorstClip, number: int) -> int:
        if self.on_gpu:
            return self._run(clip, number)
        if clip not in self.kept:
            one, two = (self._measure(clip, count) for count in (1, 2))
            self.kept[clip] = (one, max(two - one, 0))
        first, each = self.kept[clip]
        return self.fixed + int(self.above * (first + each * (number - 1)))

    def _measure(self, clip: WorstClip, number: int) -> int:
        batch = self.collate(clip.rows(number, self.feature_size))
        return measure_step(self.model, batch, self.training, self.loss, chunked_head=self.head)[1]

    def _run(self, clip: WorstClip, number: int) -> int:
        """Run the batch; more than there is when it does not fit. AdamW's two states are not there yet: they add."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            self._measure(clip, number)
        except torch.OutOfMemoryError:
            self.model.zero_grad(set_to_none=True)
            return 2**62
        return self.fixed + int(torch.cuda.max_memory_allocated() - before)
