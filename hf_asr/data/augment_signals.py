"""What augmentations do to samples, as plain functions of arrays: levels, noise, rooms, bands, clipping, silence.

Nothing is drawn here but noise itself, from the generator that is handed in; :mod:`hf_asr.data.augment` decides when
and how much.
"""

from __future__ import annotations

import numpy as np

from hf_asr.data.audio import SAMPLE_RATE

# A clip whose loudest sample is below a third of 16-bit's smallest step is silence; no ratio to it can be set.
SILENCE = 1e-5
# Slope of the band's edges: 4 poles are 24 dB an octave, about what telephone filters have (ITU-T G.712).
POLES = 4
# 60 dB in amplitude, as the exponent of e: ln(1000).
DECAY_60_DB = float(np.log(1000.0))


def limited(samples: np.ndarray) -> np.ndarray:
    """Return (T,) float32, scaled down as a whole where a sample would pass full scale."""
    peak = float(np.abs(samples).max(initial=0.0))
    scaled = samples / peak if peak > 1 else samples
    return np.ascontiguousarray(scaled, dtype=np.float32)


def power(samples: np.ndarray) -> float:
    """Return the mean square of (T,) samples."""
    return float(np.mean(np.square(samples, dtype=np.float64)))


def from_db(decibels: float) -> float:
    """Return the amplitude ratio of a level in dB."""
    return float(10 ** (decibels / 20))


def is_silent(samples: np.ndarray) -> bool:
    """Tell whether nothing is heard in (T,) samples."""
    return float(np.abs(samples).max(initial=0.0)) < SILENCE


def with_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise below a clip.

    Args:
        samples: (T,).
        noise: (T,), at any level.
        snr_db: Power of all the clip against all the noise, in dB.

    Returns:
        (T,) float64, which may pass full scale; the clip itself where it or the noise is silent.
    """
    assert samples.shape == noise.shape, (samples.shape, noise.shape)
    if is_silent(samples) or is_silent(noise):
        return samples
    scale = np.sqrt(power(samples) / power(noise)) / from_db(snr_db)
    return samples + scale * noise.astype(np.float64)


def white_noise(length: int, random: np.random.RandomState) -> np.ndarray:
    """Return (T,) noise with the same power at every frequency."""
    return random.standard_normal(length)


def pink_noise(length: int, random: np.random.RandomState) -> np.ndarray:
    """Return (T,) noise with the same power in every octave: its power falls as 1 / frequency."""
    spectrum = np.fft.rfft(random.standard_normal(length))
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return np.fft.irfft(spectrum, length)


def fitted(samples: np.ndarray, length: int, random: np.random.RandomState) -> np.ndarray:
    """Return a stretch of ``length`` samples, from a random place; what is too short is repeated."""
    if len(samples) >= length:
        first = random.randint(len(samples) - length + 1)
        return samples[first : first + length]
    first = random.randint(len(samples))
    return np.take(samples, np.arange(first, first + length), mode="wrap")


def generated_room(rt60: float, wet_db: float, random: np.random.RandomState) -> np.ndarray:
    """Return an impulse response: the direct sound, then noise that decays exponentially (Polack 1988).

    Args:
        rt60: Seconds in which the reverberation falls by 60 dB.
        wet_db: Energy of the reverberation against that of the direct sound, in dB.
        random: Draws the noise.

    Returns:
        (N,) float64, N samples being ``rt60``; the first is 1.
    """
    length = max(2, round(rt60 * SAMPLE_RATE))
    envelope = np.exp(-DECAY_60_DB * np.arange(1, length) / (rt60 * SAMPLE_RATE))
    tail = random.standard_normal(length - 1) * envelope
    return np.concatenate([[1.0], tail * from_db(wet_db) / np.sqrt(np.sum(tail**2))])


def from_direct_sound(response: np.ndarray) -> np.ndarray:
    """Cut a recorded impulse response at its loudest sample, the direct sound, so that a clip stays in its place."""
    return response[int(np.abs(response).argmax()) :]


def in_room(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve (T,) samples with an impulse response (N,); length and power stay, the end's reverberation is cut."""
    if is_silent(samples) or is_silent(response):
        return samples
    size = 1 << (len(samples) + len(response) - 2).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    wet = np.fft.irfft(spectrum, size)[: len(samples)]
    return wet * np.sqrt(power(samples) / power(wet))


def in_band(samples: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Leave a band of (T,) samples: Butterworth's magnitude at both edges (-3 dB there), without a delay."""
    size = len(samples) + SAMPLE_RATE // 10  # 100 ms of zeros keep the end's ringing off the beginning
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    with np.errstate(divide="ignore"):
        high_pass = 1 / np.sqrt(1 + (low_hz / frequencies) ** (2 * POLES))
    low_pass = 1 / np.sqrt(1 + (frequencies / high_hz) ** (2 * POLES))
    return np.fft.irfft(np.fft.rfft(samples, size) * high_pass * low_pass, size)[: len(samples)]


def clipped(samples: np.ndarray, share: float) -> np.ndarray:
    """Cut the loudest ``share`` of (T,) samples off at the level that the others keep below."""
    level = float(np.quantile(np.abs(samples), 1 - share))
    return np.clip(samples, -level, level)


def silence(seconds: float) -> np.ndarray:
    """Return digital silence, float32."""
    return np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)
