"""Features of a few clips in a tiny Whisper's window, for the tests of thin plans."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import WhisperForConditionalGeneration

from hf_asr.features.positions import Window, as_tensors
from hf_asr.models.whisper_thin import ThinWhisper, thinned

# The batch is padded to 152 keys.
SECONDS, POSITIONS = 3, 150
FRAMES = (101, 40, 0)


def loud_whisper(folder: Path, **options: object) -> WhisperForConditionalGeneration:
    """Load a tiny Whisper with weights so large that what it writes depends on what it hears."""
    model = WhisperForConditionalGeneration.from_pretrained(folder, **options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "encoder.embed" not in name and "embed_tokens" not in name:
                parameter.mul_(20 if "decoder.embed" in name else 8)
        model.model.decoder.layer_norm.weight.mul_(30)
    return model


def pair(folder: Path, **options: object) -> tuple[WhisperForConditionalGeneration, ThinWhisper]:
    """Return a stock model and a thinned one with the same weights."""
    stock = loud_whisper(folder, **options)
    return stock, thinned(copy.deepcopy(stock))


def windows(frames: Sequence[int] = FRAMES, seed: int = 0) -> torch.Tensor:
    """Return features (B, 80, 300) of the whole window: noise, then each clip's own silence."""
    features = torch.randn(len(frames), 80, 2 * POSITIONS, generator=torch.Generator().manual_seed(seed))
    for index, count in enumerate(frames):
        features[index, :, count:] = -1.0 - index / 10
    return features


def planned(whole: torch.Tensor, frames: Sequence[int] = FRAMES, **window: int) -> dict[str, torch.Tensor]:
    """Return a batch on a plan of those features, with log weights also where none is needed."""
    chosen = Window(POSITIONS, **window)
    plan = as_tensors([chosen.of_clip(count) for count in frames])
    return {"input_features": whole[:, :, : chosen.padded_frames(frames)], **plan}


def prompts(clips: int = len(FRAMES)) -> torch.Tensor:
    """Return decoder inputs (B, 7)."""
    return torch.randint(0, 256, (clips, 7), generator=torch.Generator().manual_seed(1))
