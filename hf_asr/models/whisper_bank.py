"""What a bank of Whisper holds: the states that the decoder attends to, of a full window or of a plan's positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_asr.features.bank_room import BankShape
from hf_asr.features.collate import PlannedPadder
from hf_asr.features.lengths import FRAMES_PER_SECOND
from hf_asr.features.positions import FRAMES_PER_POSITION
from hf_asr.models.weights_hash import weights_hash

# What of a config decides the encoder's states beside its weights.
SETTINGS = (
    "d_model",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "activation_function",
    "num_mel_bins",
    "max_source_positions",
)


def bank_shape(model: PreTrainedModel, padder: Any) -> BankShape:
    """Return what a bank of this model holds.

    Args:
        model: A Whisper.
        padder: Of the collator that its clips are encoded with: its plan says how many positions a clip keeps, each
            with its weight beside its D numbers; without a plan all of them are kept.
    """
    config = model.config
    if not isinstance(padder, PlannedPadder):
        smaller = "set model.window=thinned (and evaluation.window)"
        return BankShape(1, config.d_model, 0.0, config.max_source_positions, smaller)
    window, speech = padder.window, FRAMES_PER_SECOND / FRAMES_PER_POSITION
    # Of the silence, 1 of stride positions is kept: each second of speech takes away its share of that.
    tail = 1 / window.stride if window.stride else 0.0
    # One more for the rounding up of speech, what a bucket rounds up at most, and the last two runs: one that stands
    # for fewer positions than others, and the window's end.
    clip = window.keep * (1 - tail) + window.positions * tail + 1 + window.bucket + 2 * window.run
    return BankShape(1, config.d_model + 1, speech * (1 - tail), clip, "raise model.window_stride")


def encoder_hash(model: PreTrainedModel) -> str:
    """Return a hash of the encoder: of what it computes, whatever the checkpoint is called."""
    return weights_hash(model.get_encoder(), {name: model.config.to_dict()[name] for name in SETTINGS})


@dataclass(frozen=True)
class WhisperStates:
    """Runs the encoder over encoded rows.

    Attributes:
        model: A Whisper on its device.
        collate: Its collator for the window that the bank is for.
        autocast: Arithmetic of the encoder where it is not the weights' own.
    """

    model: PreTrainedModel
    collate: Any
    autocast: torch.dtype | None

    @torch.no_grad()
    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """Return each row's states (1, S, D), float16, without batch padding; on a plan (1, S, D + 1) with weights."""
        model, device, batch = self.model, self.model.device, self.collate(rows)
        inputs = {
            name: batch[name].to(device, model.dtype if batch[name].is_floating_point() else None)
            for name in ("input_features", "positions", "log_weights")
            if name in batch
        }
        was_training = model.training
        model.eval()
        with torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None):
            states = model.get_encoder()(**inputs).last_hidden_state
        model.train(was_training)
        halves = states.half().cpu()
        if "positions" not in batch:
            return [clip[None] for clip in halves.numpy()]
        # Whole numbers up to 2048 are exact in float16; P is at most 1500.
        unweighed = torch.zeros(batch["positions"].shape)
        weights = batch.get("log_weights", unweighed).exp().round().half()
        lengths = weights.gt(0).sum(1).tolist()
        clips = torch.cat([halves, weights.unsqueeze(-1)], dim=-1).numpy()
        return [clip[None, :length] for clip, length in zip(clips, lengths, strict=True)]
