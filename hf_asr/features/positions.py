"""The thin plan: which positions of an encoder's window a clip keeps, and how many positions each of them stands for.

Whisper's encoder always takes 30 seconds, so a clip of 5 seconds spends five sixths of it on silence. That silence is
one constant, the positions aside: a few of its positions can stand for all of them, each as a key whose attention
logit is raised by the logarithm of the number that it stands for (the proportional attention of Token Merging, Bolya
et al. 2022). They are kept in runs of neighbours, the last of which ends the window: a Whisper bears that far better
than as many positions spread evenly (docs/thinned_silence.md). Letters as in :mod:`hf_asr.utterance`: M frames, S
positions; P is the whole window's S.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

# Frames of silence that a batch needs behind its longest clip for the encoder's two convolutions (kernel 3, the second
# with stride 2) to show the two values that silence has: inside the window, and at its last position, which sees the
# convolutions' zeros behind the window. Position p sees the frames 2p - 2 to 2p + 2; in a batch of 2K frames position
# K - 2 is the first kind and K - 1 the second, so 2 (K - 2) - 2 frames may be speech.
MARGIN = 6
# What a batch's frames and positions are rounded up to: fewer shapes, and rows of the mask that GPU kernels can load.
FRAMES_MULTIPLE = 64
POSITIONS_MULTIPLE = 8
# Positions of a clip window come in steps of 0.16 s. 5 s are 251 positions, as the STFT's windows reach beyond their
# end; in steps of a second they took 300.
CLIP_BUCKET = 8
FRAMES_PER_POSITION = 2


@dataclass(frozen=True, eq=False)
class ClipPlan:
    """The plan of one clip.

    Attributes:
        positions: (S,) int64, ascending: positions of the window that are computed.
        weights: (S,) int64: positions that each of them stands for.
    """

    positions: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class WindowChoice:
    """What is asked for: ``model.window`` or ``evaluation.window``, and how much silence a thinned one keeps.

    Attributes:
        name: ``full``, ``thinned`` or ``clip``.
        keep_seconds: ``model.window_keep_seconds``.
        stride: ``model.window_stride``.
        run: ``model.window_run``.
    """

    name: str = "full"
    keep_seconds: float = 0.5
    stride: int = 10
    run: int = 10

    @classmethod
    def of(cls, model: Any, name: str | None = None) -> WindowChoice:
        """Return what the ``model`` section asks for; ``name`` in place of its own ``window``."""
        chosen = model.window if name is None else name
        return cls(chosen, model.window_keep_seconds, model.window_stride, model.window_run)


@dataclass(frozen=True)
class Window:
    """How much of the encoder's window a clip keeps.

    Attributes:
        positions: P, ``max_source_positions`` of the model.
        keep: Silent positions after the speech that are kept one by one.
        stride: One of how many positions is kept of the silence after these; 0 cuts it off, which an unadapted model
            does not bear.
        bucket: The positions that are kept one by one are rounded up to a multiple of it.
        run: How many neighbours are kept together: ``run`` of every ``run * stride``.
    """

    positions: int
    keep: int = 0
    stride: int = 1
    bucket: int = 1
    run: int = 1

    def __post_init__(self) -> None:
        assert self.positions >= 2 and min(self.keep, self.stride) >= 0 and min(self.run, self.bucket) >= 1, self

    @property
    def frames(self) -> int:
        """Frames of the whole window, 3000 for every published Whisper."""
        return self.positions * FRAMES_PER_POSITION

    def of_clip(self, frames: int) -> ClipPlan:
        """Plan a clip.

        Args:
            frames: True frames of the clip (M), 0 for a filler.

        Returns:
            Speech and ``keep`` with weight 1, then of the silence the middle ``run`` of every ``run * stride``
            positions, which share the weight of them all, and the window's last ``run`` with weight 1. The weights add
            up to P (unless the silence is cut off).
        """
        assert 0 <= frames <= self.frames, (frames, self.frames)
        kept = -(-frames // FRAMES_PER_POSITION) + self.keep
        kept = min(max(-(-kept // self.bucket), 1) * self.bucket, self.positions)
        if not self.stride:
            return ClipPlan(np.arange(kept), np.ones(kept, dtype=np.int64))
        plan = thinned(kept, self.positions, self.stride, self.run)
        assert plan.weights.sum() == self.positions and plan.weights.min() >= 1, (frames, self)
        return plan

    def padded_frames(self, frames: Sequence[int]) -> int:
        """Return the frames that a batch of clips with these true frames is filled up to (M of the batch)."""
        needed = max(frames, default=0) + MARGIN
        return min(-(-needed // FRAMES_MULTIPLE) * FRAMES_MULTIPLE, self.frames)

    def of_batch(self, frames: Sequence[int]) -> dict[str, torch.Tensor]:
        """Plan a batch.

        Args:
            frames: True frames of each clip.

        Returns:
            ``positions`` int64 (B, S) and ``log_weights`` float32 (B, S), S the most positions that a clip keeps,
            rounded up. Places behind a clip's own have position 0 and -inf: nothing attends to them. Where all clips
            keep equally many and none stands for others, there are ``positions`` alone: attention needs no mask then,
            which leaves a GPU its fastest kernels.
        """
        plans = [self.of_clip(count) for count in frames]
        if all(len(plan.positions) == len(plans[0].positions) and plan.weights.max() == 1 for plan in plans):
            return {"positions": torch.from_numpy(np.stack([plan.positions for plan in plans]))}
        return as_tensors(plans)


@lru_cache(maxsize=4096)
def thinned(kept: int, window: int, stride: int, run: int) -> ClipPlan:
    """Plan a clip of which the first ``kept`` positions are computed one by one, see :meth:`Window.of_clip`."""
    end = max(kept, window - run)
    positions, weights = [np.arange(kept)], [np.ones(kept, dtype=np.int64)]
    for first in range(kept, end, run * stride):
        size = min(run * stride, end - first)
        several = min(run, size)
        positions.append(first + (size - several) // 2 + np.arange(several))
        weights.append(size // several + (np.arange(several) < size % several))
    positions.append(np.arange(end, window))
    weights.append(np.ones(window - end, dtype=np.int64))
    return ClipPlan(np.concatenate(positions), np.concatenate(weights))


def as_tensors(plans: Sequence[ClipPlan]) -> dict[str, torch.Tensor]:
    """Pad the plans of several clips to the longest; ``positions`` and ``log_weights`` of :meth:`Window.of_batch`."""
    longest = max(len(plan.positions) for plan in plans)
    size = -(-longest // POSITIONS_MULTIPLE) * POSITIONS_MULTIPLE
    positions = torch.zeros(len(plans), size, dtype=torch.int64)
    log_weights = torch.full((len(plans), size), -torch.inf)
    for index, plan in enumerate(plans):
        count = len(plan.positions)
        positions[index, :count] = torch.from_numpy(plan.positions)
        log_weights[index, :count] = torch.from_numpy(plan.weights).float().log()
    return {"positions": positions, "log_weights": log_weights}


def stem_source(positions: torch.Tensor, computed: int, window: int) -> torch.Tensor:
    """Tell where the convolutions' output for each position is found when only the first frames were computed.

    Args:
        positions: (B, S) positions of the window.
        computed: K, positions that the convolutions gave for the batch's 2K frames.
        window: P.

    Returns:
        (B, S) places below K: the position's own, K - 2 for silence behind it, K - 1 for the window's last position.
    """
    return positions.clamp(max=computed - 2).masked_fill(positions == window - 1, computed - 1)


# The plan on its way through ``generate``: its numbers as bytes, since float16 and bfloat16 hold 0 to 255 exactly.
_HEADER = 3


def pack(features: torch.Tensor, positions: torch.Tensor, log_weights: torch.Tensor | None) -> torch.Tensor:
    """Write a batch's plan into further mel bins of its features.

    Args:
        features: (B, F, M), any floating type.
        positions: (B, S) int64.
        log_weights: (B, S), or None where all are 0.

    Returns:
        (B, F + R, M) in the features' type; :func:`unpack` also finds the plan after more frames were appended.
    """
    batch, _, frames = features.shape
    size = positions.shape[1]
    numbers = [frames, size, int(log_weights is not None)]
    header = torch.tensor(numbers, dtype=torch.int32, device=features.device).expand(batch, _HEADER)
    weights = [] if log_weights is None else [log_weights.float().view(torch.int32)]
    words = torch.cat([header, positions.to(torch.int32), *weights], dim=1)
    octets = words.contiguous().view(torch.uint8)
    rows = -(-octets.shape[1] // frames)
    octets = torch.nn.functional.pad(octets, (0, rows * frames - octets.shape[1]))
    return torch.cat([features, octets.view(batch, rows, frames).to(features.dtype)], dim=1)


def unpack(packed: torch.Tensor, feature_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Undo :func:`pack`; reads three numbers on the host.

    Args:
        packed: (B, F + R, M or more).
        feature_size: F.

    Returns:
        (B, F, M) features, (B, S) positions and (B, S) float32 log weights, None where there were none.
    """
    rows = packed[:, feature_size:]
    width = 4 * _HEADER
    frames, size, weighted = rows[0, 0, :width].to(torch.uint8).contiguous().view(torch.int32).tolist()
    octets = rows[:, :, :frames].to(torch.uint8).flatten(1)
    words = octets[:, : 4 * (_HEADER + (1 + weighted) * size)].contiguous().view(torch.int32)[:, _HEADER:]
    log_weights = words[:, size:].contiguous().view(torch.float32) if weighted else None
    return packed[:, :feature_size, :frames], words[:, :size].long(), log_weights
