"""The CTC loss, summed over a micro-batch (Graves et al. 2006)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from hf_asr.features.collate import IGNORED
from hf_asr.models.ctc_processor import StateCount
from hf_asr.models.losses import Loss, count_tokens


def state_lengths(model: Any, inputs: Mapping[str, Any], states: int) -> torch.Tensor:
    """Return how many states of each clip are read, int64 (B,).

    All ``states`` of the batch where there is no attention mask: models that were pretrained without one see padding
    as silence, and their text is read off the padding as well.
    """
    mask = inputs.get("attention_mask")
    if mask is None:
        batch = inputs["input_values"].shape[0]
        return torch.full((batch,), states, dtype=torch.long, device=inputs["input_values"].device)
    return StateCount(model.config).of(mask.sum(-1)).clamp(max=states)


def summed_ctc(
    logits: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor, blank: int, zero_infinity: bool = True
) -> torch.Tensor:
    """Return the CTC loss summed over clips, in float32.

    Args:
        logits: (B, S, V), any floating type.
        lengths: (B,), states of each clip.
        labels: (B, L), filled with -100; a clip whose only label is the blank is silent; one without any is a filler,
            whose loss is multiplied by 0.
        blank: Id of the blank.
        zero_infinity: A clip without any alignment counts 0.

    Returns:
        A scalar with a gradient for all logits.
    """
    written = labels.ne(IGNORED) & labels.ne(blank)
    counts = labels.ne(IGNORED).any(-1)
    # cuDNN's CTC knows neither empty targets nor zero_infinity, and its gradient is not deterministic.
    with torch.autocast(logits.device.type, enabled=False), torch.backends.cudnn.flags(enabled=False):
        losses = functional.ctc_loss(
            functional.log_softmax(logits.float(), dim=-1).transpose(0, 1),
            labels[written],
            lengths,
            written.sum(-1),
            blank=blank,
            reduction="none",
            zero_infinity=zero_infinity,
        )
    return (losses * counts).sum()


def _summed(model: Any, inputs: Mapping[str, Any], outputs: Any, smoothing: float) -> torch.Tensor:
    lengths = state_lengths(model, inputs, outputs.logits.shape[1])
    config = model.config
    return summed_ctc(outputs.logits, lengths, inputs["labels"], config.pad_token_id, config.ctc_zero_infinity)


# Divided by the label tokens of the step, as the other families' losses are.
CTC = Loss(_summed, count_tokens)
