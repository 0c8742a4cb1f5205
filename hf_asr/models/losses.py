"""What a family's model minimises: a sum over a micro-batch, and what it is divided by over the optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from hf_asr.features.collate import IGNORED


@dataclass(frozen=True)
class Loss:
    """A loss that is exact however a step is cut into micro-batches and processes.

    Attributes:
        summed: (bare model, inputs, its outputs, label smoothing) -> scalar sum over the micro-batch, float32, with a
            gradient (of zeros, where all labels are ignored) for every parameter that the outputs depend on.
        items: labels -> how many items ``summed`` added up; ignored ones do not count.
    """

    summed: Callable[[Any, Mapping[str, Any], Any, float], torch.Tensor]
    items: Callable[[torch.Tensor], torch.Tensor]


def count_tokens(labels: torch.Tensor) -> torch.Tensor:
    """Return the number of entries in ``labels``, of any shape, that are not ignored."""
    return labels.ne(IGNORED).sum()


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the cross-entropy summed over label tokens, in float32.

    Args:
        logits: (B, L, V), any floating type.
        labels: (B, L), ``-100`` where nothing is to be learnt.
        label_smoothing: Share of the target spread evenly over the vocabulary (Szegedy et al. 2016).

    Returns:
        A scalar; 0 (with zero gradients for every parameter) when all labels are ignored.
    """
    flat = logits.float().reshape(-1, logits.shape[-1])
    return functional.cross_entropy(
        flat, labels.reshape(-1), ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
    )


def _tokens(model: Any, inputs: Mapping[str, Any], outputs: Any, smoothing: float) -> torch.Tensor:
    return summed_cross_entropy(outputs.logits, inputs["labels"], smoothing)


# Encoder-decoders, whose logits stand beside their labels.
TOKENS = Loss(_tokens, count_tokens)
