"""Noise in the shape of speech, for profiles without a corpus: right for speed, useless for words."""

from __future__ import annotations

import numpy as np

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.utterance import Seconds

# The rate of syllables, and the level of speech in published corpora (-26 dBFS).
SYLLABLES_A_SECOND = 4.0
LEVEL = 0.05


def noise(seconds: Seconds, seed: int) -> np.ndarray:
    """Return noise whose spectrum falls as speech's does and whose level goes up and down with syllables.

    Args:
        seconds: Its length.
        seed: Equal seeds give equal samples.

    Returns:
        Float32 samples (T,) at 16 kHz.
    """
    samples = round(seconds * SAMPLE_RATE)
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft(generator.normal(size=samples))
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    # The long-term spectrum of speech falls by about 6 dB an octave above 500 Hz (Byrne et al. 1994).
    shaped = np.fft.irfft(spectrum / np.maximum(frequencies, 500.0), n=samples)
    times = np.arange(samples) / SAMPLE_RATE
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * (SYLLABLES_A_SECOND * times + generator.random()))
    shaped *= syllables
    loudest = float(np.sqrt(np.mean(shaped**2))) or 1.0
    return (shaped * LEVEL / loudest).astype(np.float32)
