"""The built-in set: the same bytes every time, of the lengths and levels it says, and nothing broken."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from hf_asr.data.audio import SAMPLE_RATE, load
from hf_asr.data.non_speech import CLIPS, builtin_clips, builtin_samples, sound_of

PLACES = range(len(CLIPS))


def test_the_set_is_the_same_every_time() -> None:
    first, second = (list(builtin_clips()) for _ in range(2))
    assert first == second
    assert len({row.id for row in first}) == len(first) == 24
    assert {row.text for row in first} == {""}
    assert (min(row.duration or 0 for row in first), max(row.duration or 0 for row in first)) == (1.0, 25.0)


@pytest.mark.parametrize("place", PLACES)
def test_a_clip_is_as_long_and_loud_as_it_says(place: int) -> None:
    sound, _, level, seconds = CLIPS[place]
    samples = builtin_samples(place)
    assert samples.dtype == np.float32 and len(samples) == seconds * SAMPLE_RATE
    assert np.isfinite(samples).all() and np.abs(samples).max() <= 1
    if sound == "silence":
        assert not samples.any()
    else:
        power = 20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        assert power == pytest.approx(level, abs=1.0)  # a click or two are cut at full scale


def test_rows_hold_what_the_model_hears() -> None:
    row = next(row for row in builtin_clips() if "white_noise_3s" in row.id)
    place = int(row.id.partition("_")[0])
    assert sound_of(row.id) == row.extra["sound"] == "white_noise"
    np.testing.assert_allclose(load(row.audio), builtin_samples(place), atol=2**-15)
    assert row.audio.data is not None
    assert soundfile.info(io.BytesIO(row.audio.data)).samplerate == SAMPLE_RATE


@pytest.mark.parametrize(("sound", "slope"), [("white_noise", 0), ("pink_noise", -3), ("brown_noise", -6)])
def test_noise_has_its_colour(sound: str, slope: float) -> None:
    samples = builtin_samples(max(place for place in PLACES if CLIPS[place][0] == sound))
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    octaves = [
        10 * np.log10(power[(frequencies >= low) & (frequencies < 2 * low)].mean()) for low in (250, 500, 1000, 2000)
    ]
    assert np.diff(octaves).mean() == pytest.approx(slope, abs=0.5)
