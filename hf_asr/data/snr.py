"""How much louder a clip's speech is than what is behind it: an estimate from the clip alone, for slices.

The quietest tenth of the frames is taken for noise alone, the louder half for speech and noise, as NIST's STNR reads
both from the histogram of frame levels. It is good to about 3 dB between 0 and 30 dB where clips hold pauses and the
noise is steady; a clip that was cut to the speech, or gated to digital silence, says little.

Source: NIST Speech Quality Assurance package, stnr (1994).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, prepare
from hf_asr.utterance import AudioRef

_FRAME = SAMPLE_RATE // 50  # 20 ms
_FEWEST_FRAMES = 10
_NOISE_SHARE, _SPEECH_SHARE = 0.1, 0.5
# Beyond this a clip is as good as clean, and digital silence would be infinitely so.
LIMIT_DB = 60.0
_THREADS = 8


def estimate_snr(samples: np.ndarray) -> float | None:
    """Return the signal-to-noise ratio of a clip's (T,) samples in dB, at most 60 either way; None below 0.2 s."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if len(frames) < _FEWEST_FRAMES:
        return None
    power = np.sort(np.square(frames, dtype=np.float64).mean(axis=1))
    noise = float(power[: max(1, round(_NOISE_SHARE * len(power)))].mean())
    speech = float(power[-round(_SPEECH_SHARE * len(power)) :].mean()) - noise
    if speech <= 0:
        return -LIMIT_DB if noise else None
    ratio = 10 * math.log10(speech / noise) if noise else LIMIT_DB
    return max(-LIMIT_DB, min(LIMIT_DB, ratio))


def snr_of_clips(audio: Iterable[Mapping[str, Any]]) -> Iterator[float | None]:
    """Yield the estimate for each ``audio`` cell of a corpus's rows, in order; None where it cannot be decoded."""
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(_snr_of, audio)


def _snr_of(cell: Mapping[str, Any]) -> float | None:
    try:
        found = estimate_snr(prepare(AudioRef(**cell), "none", False))
    except BrokenAudio:
        return None
    return None if found is None else round(found, 2)
