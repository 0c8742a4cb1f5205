"""Pictures of sound for the page about a corpus."""

from __future__ import annotations

from io import BytesIO

import numpy as np

WINDOW, HOP = 400, 160  # 25 ms and 10 ms at 16 kHz, as Whisper's
RANGE = 80.0  # dB below the loudest point that are told apart
COLUMNS = 320


def spectrogram_png(samples: np.ndarray) -> bytes:
    """Return the power spectrogram of samples (T,) at 16 kHz as a PNG: 0 Hz below, at most 320 columns.

    Longer clips have columns that are the maximum of several frames, so that short sounds stay.
    """
    from matplotlib import image

    power = power_spectrum(samples)
    step = -(-power.shape[0] // COLUMNS)
    padded = np.pad(power, ((0, -power.shape[0] % step), (0, 0)))
    joined = padded.reshape(-1, step, power.shape[1]).max(axis=1)
    level = 10 * np.log10(np.maximum(joined, 1e-12))
    shown = np.clip(level - level.max() + RANGE, 0, RANGE) / RANGE
    file = BytesIO()
    # Two bins a row: 100 rows are what the page shows.
    halved = shown[:, : shown.shape[1] // 2 * 2].reshape(len(shown), -1, 2).mean(axis=2)
    image.imsave(file, halved.T[::-1], cmap="magma", vmin=0, vmax=1, format="png")
    return file.getvalue()


def power_spectrum(samples: np.ndarray) -> np.ndarray:
    """Return the power of each frame and frequency, (M, 201), frames of 25 ms every 10 ms under a Hann window."""
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return np.square(np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)))
