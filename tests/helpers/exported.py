"""What the tests of exports share: a Whisper whose texts differ with what it hears, loaded as the verb loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers.scripted_whisper import make_talker

from hf_asr.config.arguments import DataArguments
from hf_asr.export.source import Source, arguments_of, find_model, open_source

GREEDY = {"max_new_tokens": 20, "num_beams": 1}


def open_whisper(folder: Path, language: str | None = "en") -> Source:
    """Make a talking Whisper in ``folder`` when it is not there, and open it."""
    if not folder.is_dir():
        make_talker(folder)
    return open_folder(folder, language)


def open_folder(folder: Path, language: str | None = "en", base: str | None = None) -> Source:
    """Open a model as ``hf-asr export`` does."""
    place = find_model(folder, base)
    arguments = arguments_of(place)
    arguments.data = DataArguments(language=language)
    return open_source(place, arguments)


def random_features(clips: int, frames: int = 400, seed: int = 0) -> torch.Tensor:
    """Return (B, 80, M) features in the range of log-mel."""
    return torch.randn(clips, 80, frames, generator=torch.Generator().manual_seed(seed)) * 2


def texts(source: Source, model: Any, features: torch.Tensor, **options: Any) -> list[str]:
    """Decode with a model, or with what stands in for it."""
    with torch.no_grad():
        batch = {"input_features": features}
        return source.family.decode(model, source.processor, batch, {**GREEDY, **options})
