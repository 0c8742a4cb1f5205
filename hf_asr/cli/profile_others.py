"""Runtimes that `hf-asr profile` measures whole, beside transformers' own: what profiling stands left of."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_asr.profiling.clips import ProfileClip
from hf_asr.profiling.runners import Runner, Stopwatch
from hf_asr.profiling.subject import Subject
from hf_asr.profiling.variants import NotAvailable


def other_runtimes(folder: Path) -> Mapping[str, Callable[[Subject, torch.device], Runner]]:
    """Return what makes each runtime's runner, by variant.

    Args:
        folder: Where exports lie while they are loaded.
    """
    return {
        "ctranslate2": partial(_exported, "ctranslate2", folder),
        "onnx": partial(_exported, "onnx", folder),
        "faster_whisper": _faster_whisper,
    }


def _exported(name: str, folder: Path, subject: Subject, device: torch.device) -> Runner:
    # Exports bring bitsandbytes and peft along: three seconds that a grid without them need not wait.
    from hf_asr.cli.profile_exports import ctranslate2, onnx

    make = {"ctranslate2": ctranslate2, "onnx": onnx}[name]
    return make(folder, subject, device)


@dataclass
class FasterWhisper:
    """faster-whisper's own model, which takes a CTranslate2 folder or a model's name.

    Attributes:
        model: ``faster_whisper.WhisperModel``.
        language: Code of the language; None lets it detect one.
    """

    model: Any
    language: str | None

    def __call__(self, clips: Sequence[np.ndarray], tokens: int, watch: Stopwatch) -> list[list[int]]:
        """Transcribe clips one by one, as it does; its segments are read to the end."""
        ids = []
        for samples in clips:
            segments, _ = self.model.transcribe(
                samples, language=self.language, beam_size=1, temperature=0.0, max_new_tokens=tokens
            )
            ids.append([token for segment in segments for token in segment.tokens])
        watch.lap("whole")
        return ids

    def write(self, clips: Sequence[ProfileClip]) -> list[str]:
        """Decode freely: greedy, its own temperature fallback off."""
        texts = []
        for clip in clips:
            segments, _ = self.model.transcribe(clip.samples(), language=self.language, beam_size=1, temperature=0.0)
            texts.append(" ".join(segment.text.strip() for segment in segments))
        return texts

    def modules(self) -> None:
        """Return nothing: it is not made of torch's modules."""


def _faster_whisper(subject: Subject, device: torch.device) -> Runner:
    if not subject.writes:
        raise NotAvailable("faster-whisper reads a checkpoint, not an architecture's name")
    module = importlib.import_module("faster_whisper")
    if not (Path(subject.name) / "model.bin").is_file():
        raise NotAvailable("faster-whisper reads a CTranslate2 folder (hf-asr export --format ctranslate2)")
    model = module.WhisperModel(subject.name, device=device.type, local_files_only=True)
    return FasterWhisper(model, subject.arguments.data.language)
