"""What a classifier puts on an encoder's states: layers weighted, scales fused, frames pooled, and four linear layers.

Padding never leaks in: every sum over frames is weighted with the mask, every attention has a key mask, and what is
left works on each frame alone. Shapes: B clips, K layers of states, S states, D the encoder's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

RISING_DROPOUT = (0.1, 0.2, 0.3)
# Below it a standard deviation's gradient, 1 / (2 std), would explode: frames of digital silence are all alike.
SMALLEST_VARIANCE = 1e-6
HEAD_WIDTH = 64


@dataclass(frozen=True)
class HeadShape:
    """What decides a head's modules; the values of the ``head`` section.

    Attributes:
        width: D.
        num_layers: K; 1 for the last layer alone.
        outputs: Classes, or 1 for a number.
        scales: Frames that are averaged into one; ``(1,)`` fuses nothing.
        blocks: Transformer blocks.
        stochastic_depth: Probability of leaving out a clip's last block; earlier ones have less, evenly.
        pooling: ``mean``, ``statistics``, ``attention`` or ``context_attention``.
        dropout: ``rising``, or one probability for all layers.
        norm: ``layer``, ``batch`` or ``none``.
    """

    width: int
    num_layers: int
    outputs: int
    scales: Sequence[int] = field(default=(1,))
    blocks: int = 0
    stochastic_depth: float = 0.0
    pooling: str = "statistics"
    dropout: float | str = "rising"
    norm: str = "layer"


class ClassifierHead(nn.Module):
    """From the states of all layers to logits."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.weights = LayerWeights(shape.num_layers)
        self.norm = nn.LayerNorm(shape.width)
        self.fusion = MultiScaleFusion(shape.width, shape.scales) if tuple(shape.scales) != (1,) else None
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.stochastic_depth * (index + 1) / shape.blocks) for index in range(shape.blocks)
        )
        self.pooling = POOLINGS[shape.pooling](shape.width)
        self.layers = classification_layers(self.pooling.size, shape)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return logits (B, outputs) of states (B, K, S, D) and their mask (B, S), true where a clip is."""
        mixed = self.norm(self.weights(states))
        if self.fusion is not None:
            mixed = self.fusion(mixed, mask)
        for block in self.blocks:
            mixed = block(mixed, mask)
        logits: torch.Tensor = self.layers(self.pooling(mixed, mask))
        return logits


class LayerWeights(nn.Module):
    """A softmax-weighted sum over layers (Peters et al. 2018, as SUPERB uses it); it begins as their mean."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num_layers)) if num_layers > 1 else None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return (B, S, D) of (B, K, S, D)."""
        if self.scores is None:
            return states[:, 0]
        weights = torch.softmax(self.scores.float(), 0).to(states.dtype)
        return torch.einsum("k,bksd->bsd", weights, states)


class MultiScaleFusion(nn.Module):
    """Averages over several numbers of frames, projects each, joins them and fuses them back to one width."""

    def __init__(self, width: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.projections = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in self.scales)
        self.fusion = nn.Linear(width * len(self.scales), width)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, S, D); what lies behind a clip's end is meaningless, as it was before."""
        weights = mask.unsqueeze(1).to(states.dtype)
        frames = states.transpose(1, 2) * weights
        scaled = [
            functional.gelu(projection(masked_average(frames, weights, scale))).repeat_interleave(scale, dim=2)
            for scale, projection in zip(self.scales, self.projections, strict=True)
        ]
        joined = torch.cat([values[..., : states.shape[1]] for values in scaled], dim=1)
        fused: torch.Tensor = self.fusion(joined.transpose(1, 2))
        return fused


def masked_average(frames: torch.Tensor, weights: torch.Tensor, scale: int) -> torch.Tensor:
    """Average ``scale`` frames into one, those of the clip alone.

    Args:
        frames: (B, D, S), zero where ``weights`` is.
        weights: (B, 1, S), 1 inside a clip.
        scale: Frames a window; the last window may be shorter.

    Returns:
        (B, D, ceil(S / scale)); 0 where a window has no frame of the clip.
    """
    if scale == 1:
        return frames
    sums, counts = (functional.avg_pool1d(values, scale, scale, ceil_mode=True) for values in (frames, weights))
    return sums / counts.clamp(min=1e-6)


class Block(nn.Module):
    """A pre-norm Transformer block; with stochastic depth (Huang et al. 2016) it is left out clip by clip."""

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, num_heads(width), batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, S, D)."""
        normed = self.attention_norm(states)
        attended, _ = self.attention(normed, normed, normed, key_padding_mask=~mask, need_weights=False)
        inner = states + attended
        change = inner + self.feed_forward(self.feed_forward_norm(inner)) - states
        return states + kept_per_clip(change, self.drop, self.training)


def kept_per_clip(change: torch.Tensor, drop: float, training: bool) -> torch.Tensor:
    """Zero the change (B, ...) of each clip with probability ``drop``, and scale the others so that its mean stays."""
    if not training or drop == 0:
        return change
    kept = torch.rand(change.shape[0], *[1] * (change.dim() - 1), device=change.device) >= drop
    return change * kept.to(change.dtype) / (1 - drop)


def num_heads(width: int) -> int:
    """Return attention heads of about 64 numbers that divide ``width``."""
    return next(heads for heads in range(max(width // HEAD_WIDTH, 1), 0, -1) if width % heads == 0)


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean (B, D) of each clip's own states."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


class MeanPooling(nn.Module):
    """The mean of a clip's states."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = width

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, D)."""
        return masked_mean(states, mask)


class StatisticsPooling(nn.Module):
    """Mean and standard deviation of a clip's states, one behind the other (Snyder et al. 2018, x-vectors)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = 2 * width

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, 2 D)."""
        mean = masked_mean(states, mask)
        variance = masked_mean((states - mean.unsqueeze(1)).square(), mask)
        return torch.cat([mean, variance.clamp(min=SMALLEST_VARIANCE).sqrt()], dim=-1)


class AttentionPooling(nn.Module):
    """Attention over a clip's states with one learnt query."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = width
        self.query = nn.Parameter(torch.zeros(width).normal_(std=0.02))
        self.attention = nn.MultiheadAttention(width, num_heads(width), batch_first=True)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, D)."""
        return self.attend(self.query.to(states.dtype).expand(states.shape[0], -1), states, mask)

    def attend(self, query: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what a query (B, D) finds in each clip; the weights themselves are not computed."""
        found, _ = self.attention(query.unsqueeze(1), states, states, key_padding_mask=~mask, need_weights=False)
        pooled: torch.Tensor = found[:, 0]
        return pooled


class ContextAttentionPooling(AttentionPooling):
    """Attention whose query is the learnt one moved by what the clip's mean says."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.context = nn.Linear(width, width)

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, D)."""
        return self.attend(self.query.to(states.dtype) + self.context(masked_mean(states, mask)), states, mask)


POOLINGS: dict[str, type[MeanPooling | StatisticsPooling | AttentionPooling]] = {
    "mean": MeanPooling,
    "statistics": StatisticsPooling,
    "attention": AttentionPooling,
    "context_attention": ContextAttentionPooling,
}


def classification_layers(size: int, shape: HeadShape) -> nn.Sequential:
    """Return size -> D -> D/2 -> D/4 -> outputs, with norm, GELU and dropout between them."""
    rates = RISING_DROPOUT if shape.dropout == "rising" else (float(shape.dropout),) * len(RISING_DROPOUT)
    modules: list[nn.Module] = []
    for divisor, rate in zip((1, 2, 4), rates, strict=True):
        width = max(shape.width // divisor, 1)
        modules += [nn.Linear(size, width), *norm_of(shape.norm, width), nn.GELU(), nn.Dropout(rate)]
        size = width
    return nn.Sequential(*modules, nn.Linear(size, shape.outputs))


class ClipBatchNorm(nn.BatchNorm1d):
    """A batch norm that takes a last batch of one clip, which has no spread of its own, by the running statistics."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (B, D)."""
        if self.training and len(input) == 1:
            values = (self.running_mean, self.running_var, self.weight, self.bias)
            return functional.batch_norm(input, *values, training=False, eps=self.eps)
        return super().forward(input)


def norm_of(name: str, width: int) -> list[nn.Module]:
    """Return the norm of this name, none for ``none``; a batch norm makes a clip's output depend on its neighbours."""
    norms: dict[str, list[nn.Module]] = {
        "layer": [nn.LayerNorm(width)],
        "batch": [ClipBatchNorm(width)],
        "none": [],
    }
    return norms[name]
