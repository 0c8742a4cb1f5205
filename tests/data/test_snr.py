"""The signal-to-noise estimate: near the truth on speech with pauses, and defined on every clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hf_asr.data.audio import SAMPLE_RATE, prepare
from hf_asr.data.snr import LIMIT_DB, estimate_snr, snr_of_clips
from hf_asr.utterance import AudioRef


def bursts(seconds: float = 4.0) -> np.ndarray:
    """Return tones of 0.3 s with as long pauses, as syllables come."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (np.sin(2 * np.pi * 300 * time) * ((time % 0.6) < 0.3)).astype(np.float32)


@pytest.mark.parametrize("decibels", [0, 10, 20, 30])
def test_noise_of_a_known_level_is_found(decibels: int) -> None:
    speech = bursts()
    power = float(np.square(speech[speech != 0]).mean())
    noise = np.random.default_rng(0).normal(0, np.sqrt(power / 10 ** (decibels / 10)), len(speech)).astype(np.float32)
    assert estimate_snr(speech + noise) == pytest.approx(decibels, abs=3)


def test_loudness_does_not_matter() -> None:
    clip = bursts() + np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32)
    assert estimate_snr(clip) == pytest.approx(estimate_snr(clip / 100), abs=1e-3)


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (np.zeros(16_000, np.float32), None),
        (np.zeros(100, np.float32), None),
        (np.zeros(0, np.float32), None),
        (np.ones(16_000, np.float32), -LIMIT_DB),
        (bursts(), LIMIT_DB),
    ],
)
def test_odd_clips(clip: np.ndarray, expected: float | None) -> None:
    assert estimate_snr(clip) == expected


def test_more_noise_on_real_speech_is_a_lower_estimate(shared_data: Path) -> None:
    speech = prepare(AudioRef(str(shared_data / "jfk.flac")), "none", False)
    noise = np.random.default_rng(0).normal(0, 1, len(speech)).astype(np.float32)
    found = [estimate_snr(speech + level * noise) for level in (0.003, 0.01, 0.03, 0.1)]
    assert all(one is not None for one in found)
    assert found == sorted(found, reverse=True)  # type: ignore[type-var]


def test_a_clip_that_cannot_be_decoded_has_none(tmp_path: Path) -> None:
    (tmp_path / "torn.wav").write_bytes(b"RIFF")
    cell = {"path": str(tmp_path / "torn.wav"), "data": None, "offset": 0, "size": 0, "start": 0.0, "end": None}
    assert list(snr_of_clips([cell, cell])) == [None, None]
