"""Files of any length to text, by any family that writes text: windows cut at quiet points, each decoded by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_asr.config.arguments import Arguments
from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, load
from hf_asr.features.extract import ClipEncoder
from hf_asr.inference.cutting import cut_at_quiet, join
from hf_asr.inference.formats import Segment, Transcript, one_line
from hf_asr.inference.generate import bare_model, decoding, progress_bar, seed_by_ids, to_device
from hf_asr.models.family import ModelFamily
from hf_asr.utterance import AudioRef, Drops, Seconds

# Encoders with full attention take memory with the square of the length; training clips are 30 s at most.
LONGEST: Seconds = 30.0


class WindowTranscriber:
    """A model that writes down files of any length, window by window; times are the windows' bounds.

    Attributes:
        no_timestamps: Why there are no finer times.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        family: ModelFamily,
        processor: Any,
        arguments: Arguments,
        *,
        batch_size: int = 8,
        dtype: str = "float32",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Take a loaded model.

        Args:
            model: A model that writes text.
            family: Its family.
            processor: Its feature extractor and tokenizer.
            arguments: What they were loaded with; the language is used.
            batch_size: Windows decoded together.
            dtype: Arithmetic, as ``inference.generate.auto_dtype`` chose it.
            options: What the family's ``decode`` is told; by default the checkpoint's own.
        """
        self.options = options or {}
        self.wrapped = model
        self.model: Any = bare_model(model)
        self.family = family
        self.processor = processor
        self.batch_size = batch_size
        self.dtype = dtype
        self.language = arguments.data.language or ""
        self.no_timestamps = f"a {family.name} model writes none"
        self.encoder: ClipEncoder = family.make_encoder(processor, self.model.config, arguments)
        self.window = int(min(LONGEST, self.encoder.front_end.longest_seconds) * SAMPLE_RATE)

    def transcribe(
        self, files: Sequence[tuple[Path, str]], *, timestamps: bool = False, progress: bool = True
    ) -> tuple[list[Transcript], Drops]:
        """Write down files, in order; those that cannot be decoded are left out, named and counted.

        Args:
            files: Paths with the names they are reported under.
            timestamps: Of no account: a segment is a window.
            progress: Whether to show a bar on stderr.
        """
        done, drops = [], Drops()
        with decoding(self.wrapped, self.dtype), progress_bar(progress) as bar:
            for path, name in bar.track(files, description="transcribing"):
                try:
                    samples = load(AudioRef(path=str(path)))
                except BrokenAudio as error:
                    drops.add("broken_audio", name, str(error))
                    continue
                segments = self.segments(name, samples)
                duration = len(samples) / SAMPLE_RATE
                text = join(segments, self.language)
                done.append(Transcript(name, text, duration, self.language, tuple(segments)))
        return done, drops

    def segments(self, name: str, samples: np.ndarray) -> list[Segment]:
        """Return a segment for each window of samples (T,)."""
        windows = cut_at_quiet(samples, self.window)
        starts = range(0, len(windows), self.batch_size)
        texts = [
            text for start in starts for text in self._texts(name, samples, windows[start : start + self.batch_size])
        ]
        return [
            Segment(first / SAMPLE_RATE, end / SAMPLE_RATE, one_line(text))
            for (first, end), text in zip(windows, texts, strict=True)
        ]

    def _texts(self, name: str, samples: np.ndarray, windows: Sequence[tuple[int, int]]) -> list[str]:
        rows = [self._row(f"{name}@{first}", samples[first:end]) for first, end in windows]
        batch = self.family.make_collator(self.processor, self.model)(rows)
        seed_by_ids(batch["ids"])
        return self.family.decode(self.model, self.processor, to_device(batch, self.model), self.options)

    def _row(self, id: str, samples: np.ndarray) -> dict[str, Any]:
        """Return a row as the encoder gives it, with the labels of an empty text, which decoding does not look at."""
        row: dict[str, Any] = {"id": id, "text": "", "speaker": "", "label": "", "duration": len(samples) / SAMPLE_RATE}
        features = self.encoder.front_end(samples).astype(self.encoder.store_dtype)
        return {**row, "input_features": features, "labels": list(self.encoder.labeller(row)), "error": ""}
