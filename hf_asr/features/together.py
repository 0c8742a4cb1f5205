"""Clips encoded many at a time: threads decode the audio, a GPU computes the spectrograms of all of them at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.features.extract import ClipEncoder, LogMel, extent
from hf_asr.features.spectrogram import spectrograms


@dataclass(frozen=True)
class Together:
    """Encodes rows as their encoder does one by one; features before rounding differ by about 1e-6.

    Attributes:
        encoder: Of a family whose features are Whisper's log-mel spectrogram.
        device: Where spectrograms are computed.
        decoders: Threads that decode.
    """

    encoder: ClipEncoder
    device: torch.device
    decoders: ThreadPoolExecutor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return what :meth:`ClipEncoder.__call__` gives for each row."""
        heard = list(self.decoders.map(self.encoder.samples, rows))
        usable = {place: clip for place, clip in enumerate(heard) if not isinstance(clip, str) and self._fits(clip)}
        features = dict(zip(usable, self._features(list(usable.values())), strict=True))
        return [
            self.encoder.failed(row, 0.0, clip)
            if isinstance(clip, str)
            else self.encoder.encode(row, clip, features.get(place))
            for place, (row, clip) in enumerate(zip(rows, heard, strict=True))
        ]

    def _fits(self, clip: np.ndarray) -> bool:
        return not self.encoder.length_problem(len(clip) / SAMPLE_RATE)

    def _features(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        if not clips:
            return []
        extractor = cast(LogMel, self.encoder.front_end).extractor
        extents = [extent(clip, extractor) for clip in clips]
        found = spectrograms(clips, [length for _, length in extents], extractor, self.device)
        return [np.ascontiguousarray(each[:touched]) for each, (touched, _) in zip(found, extents, strict=True)]


@contextmanager
def encoding_together(encoder: ClipEncoder, device: torch.device, threads: int) -> Iterator[Together]:
    """Give what encodes rows together, with so many threads that decode."""
    with decoding_threads(threads) as decoders:
        yield Together(encoder, device, decoders)


@contextmanager
def decoding_threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads that decode and resample, each on one core.

    Resampling is a matrix product of torch: each thread would start as many of torch's own as there are cores.
    """
    before = torch.get_num_threads()  # also fixes the caller's, which would otherwise take the last that was set
    try:
        with ThreadPoolExecutor(number, "decode", initializer=torch.set_num_threads, initargs=(1,)) as threads:
            yield threads
    finally:
        torch.set_num_threads(before)  # of threads that are started later


def gpu_for(encoder: ClipEncoder, device: str) -> torch.device | None:
    """Return the GPU that ``features.device`` asks for; None where every clip is encoded by itself on the CPU.

    Args:
        encoder: Only log-mel spectrograms without dither are computed together.
        device: ``cpu``, or ``auto``: a GPU where there is one.
    """
    front_end = encoder.front_end
    able = isinstance(front_end, LogMel) and not front_end.extractor.dither
    if device == "cpu" or not able or not torch.cuda.is_available():
        return None
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
