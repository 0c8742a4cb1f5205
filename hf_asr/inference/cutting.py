"""Cutting long recordings where nobody speaks, and putting the texts together again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.inference.formats import Segment
from hf_asr.text import cer_first

_QUIET = SAMPLE_RATE // 5  # the gap between two phrases is about 200 ms and more
_STEP = SAMPLE_RATE // 100


def cut_at_quiet(samples: np.ndarray, window: int) -> list[tuple[int, int]]:
    """Cut samples (T,) into pieces of at most ``window`` samples that follow each other without gap or overlap.

    Each cut lies in the middle of the quietest 200 ms of the window's second half, the latest of equally quiet ones;
    it leaves at least a quarter of a window behind it, because a scrap of speech is decoded badly.

    Returns:
        (first, end) of each piece, in samples.
    """
    pieces, first = [], 0
    while len(samples) - first > window:
        low = first + window // 2
        high = min(first + window, len(samples) - window // 4)
        pieces.append((first, _quietest(samples, low, high)))
        first = pieces[-1][1]
    return [*pieces, (first, len(samples))]


def join(segments: Sequence[Segment], language: str) -> str:
    """Join segments to one text, with spaces unless the language is written without."""
    return ("" if cer_first(language) else " ").join(segment.text for segment in segments if segment.text)


def _quietest(samples: np.ndarray, low: int, high: int) -> int:
    if high - low <= _QUIET:
        return high
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples[low:high], dtype=np.float64))])
    starts = np.arange(0, high - low - _QUIET, _STEP)
    loudness = energy[starts + _QUIET] - energy[starts]
    # Differences of a running sum keep rounding noise of about 1e-12 where all is silent.
    quiet = starts[loudness <= loudness.min() + 1e-9]
    return low + int(quiet[-1]) + _QUIET // 2
