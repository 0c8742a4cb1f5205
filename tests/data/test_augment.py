"""Every transform: bounds, determinism, and that it does what its numbers say."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.config.augmentations import TRANSFORMS
from hf_asr.data.augment import (
    HOP,
    PLAIN,
    RECORDED,
    WAVEFORM,
    Clip,
    build_augmenter,
    nearest_ratio,
    random_of,
    resampled,
    stretched,
)
from hf_asr.data.augment_signals import (
    clipped,
    fitted,
    generated_room,
    in_band,
    in_room,
    limited,
    pink_noise,
    power,
    white_noise,
    with_noise,
)

RATE = 16_000
KEEP_LENGTH = ("pitch", "mix", "reverb", "noise", "gain", "clipping", "band_limit", "codec")


def chosen(*names: str, **changes: Any) -> dict[str, Any]:
    """Return settings of transforms that always act."""
    return {name: TRANSFORMS[name](**({"probability": 1} | changes)) for name in names}


def speech(length: int, loudness: float = 0.5, seed: int = 0) -> np.ndarray:
    """Return (T,) samples that swell four times a second."""
    random = np.random.RandomState(seed)
    swelling = 1 + np.sin(2 * np.pi * 4 * np.arange(length) / RATE)
    return (loudness * random.uniform(-1, 1, length) * swelling / 2).astype(np.float32)


def other_clip(clip: Clip, random: np.random.RandomState, same_speaker: bool) -> Clip:
    return Clip("other", speech(4000 + random.randint(100), seed=9), " second ", "s")


def augment(clip: Clip, settings_of: Mapping[str, Any], epoch: int = 0, seed: int = 42, **limits: Any) -> Clip:
    return build_augmenter(settings_of, seed, neighbours=other_clip, **limits)(clip, epoch)


def tone(frequency: float, length: int = RATE) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * frequency * np.arange(length) / RATE)).astype(np.float32)


def loudest_frequency(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


def test_every_transform_of_the_configuration_is_built() -> None:
    assert set(WAVEFORM) | {"spec_augment"} == set(TRANSFORMS)
    assert list(build_augmenter(chosen(*TRANSFORMS), 0, neighbours=other_clip).transforms) == [
        name for name in TRANSFORMS if name != "spec_augment"
    ]
    assert not set(PLAIN) & set(RECORDED)


@pytest.mark.parametrize("name", WAVEFORM)
@settings(max_examples=12)
@given(
    length=st.one_of(st.integers(1, 700), st.integers(700, 20_000)),
    loudness=st.sampled_from([0.0, 1e-6, 0.01, 0.5, 1.0, 3.0]),
    epoch=st.integers(0, 1000),
    clip_id=st.text(max_size=8),
)
def test_samples_stay_in_bounds_and_are_the_same_again(
    name: str, length: int, loudness: float, epoch: int, clip_id: str
) -> None:
    clip = Clip(clip_id, speech(length, loudness), "first", "s")
    before = clip.samples.copy()
    found, again = (augment(clip, chosen(name), epoch) for _ in range(2))
    assert (found.samples.dtype, found.samples.ndim) == (np.float32, 1)
    assert np.isfinite(found.samples).all()
    assert np.abs(found.samples).max() <= 1 or found is clip
    np.testing.assert_array_equal(found.samples, again.samples)
    np.testing.assert_array_equal(clip.samples, before)
    if name in KEEP_LENGTH:
        assert len(found.samples) == length


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000), clip_id=st.text(), name=st.sampled_from(WAVEFORM))
def test_numbers_are_a_function_of_seed_epoch_clip_and_transform(
    seed: int, epoch: int, clip_id: str, name: str
) -> None:
    found = random_of(seed, epoch, clip_id, name).random_sample(3)
    np.testing.assert_array_equal(random_of(seed, epoch, clip_id, name).random_sample(3), found)
    others = [(seed + 1, epoch, clip_id, name), (seed, epoch + 1, clip_id, name), (seed, epoch, clip_id + "x", name)]
    for key in [*others, (seed, epoch, clip_id, name + "x")]:
        assert not np.array_equal(random_of(*key).random_sample(3), found)


def test_numbers_do_not_change_with_the_version() -> None:
    """A checkpoint of an earlier version is resumed with the same augmentations."""
    assert random_of(42, 0, "clip", "noise").randint(0, 1000, 5).tolist() == [349, 810, 737, 93, 873]


def test_a_transform_draws_alike_whatever_stands_beside_it() -> None:
    clip = Clip("a", speech(8000, 0.1))
    alone = augment(clip, chosen("gain")).samples
    np.testing.assert_array_equal(augment(clip, chosen("gain") | chosen("noise", probability=0)).samples, alone)
    shifted = augment(clip, chosen("shift", seconds=[0.1, 0.1]) | chosen("gain")).samples
    np.testing.assert_array_equal(shifted[1600:-1600], alone)


def test_epochs_and_clips_differ() -> None:
    clips = [augment(Clip(name, speech(8000)), chosen("noise"), epoch) for name in "ab" for epoch in range(3)]
    assert len({clip.samples.tobytes() for clip in clips}) == 6


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_the_probability_is_the_share_of_clips(probability: float) -> None:
    augmenter = build_augmenter(chosen("gain", probability=probability), 42)
    clips = [Clip(str(number), np.full(4, 0.1, np.float32)) for number in range(1000)]
    share = np.mean([augmenter(clip, 0) is not clip for clip in clips])
    assert abs(share - probability) < 0.05


@pytest.mark.parametrize("name", ["speed", "shift", "concatenate"])
def test_what_would_pass_a_limit_is_not_applied(name: str) -> None:
    slow = {"factor": [0.5, 0.5]} if name == "speed" else {}
    clip = Clip("a", speech(8000), "first")
    assert augment(clip, chosen(name, **slow), longest=8000) is clip
    assert len(augment(clip, chosen(name, **slow), longest=40_000).samples) > 8000
    if name == "speed":
        assert augment(clip, chosen(name, factor=[2, 2]), shortest=4001) is clip


@settings(max_examples=50)
@given(
    length=st.integers(50, 5000),
    snr_db=st.floats(-20, 60),
    loudness=st.floats(0.01, 1),
    color=st.sampled_from([white_noise, pink_noise]),
)
def test_the_signal_to_noise_ratio_is_reached(length: int, snr_db: float, loudness: float, color: Any) -> None:
    samples = speech(length, loudness)
    noise = with_noise(samples, color(length, np.random.RandomState(1)), snr_db) - samples
    assert abs(10 * np.log10(power(samples) / power(noise)) - snr_db) < 0.1


@pytest.mark.parametrize("name", ["noise", "mix"])
def test_a_transform_reaches_its_ratio(name: str) -> None:
    clip = Clip("a", speech(16_000, 0.05))
    noise = augment(clip, chosen(name, snr_db=[12, 12])).samples - clip.samples
    assert abs(10 * np.log10(power(clip.samples) / power(noise)) - 12) < 0.1


@pytest.mark.parametrize(("color", "slope"), [(white_noise, 3.0), (pink_noise, 0.0)])
def test_colors_of_noise(color: Any, slope: float) -> None:
    """White noise has 3 dB more power in each octave than in the one below, pink noise the same."""
    spectrum = np.abs(np.fft.rfft(color(2**17, np.random.RandomState(0)))) ** 2
    octaves = [10 * np.log10(spectrum[2**k : 2 ** (k + 1)].sum()) for k in range(10, 16)]
    assert np.abs(np.diff(octaves) - slope).max() < 0.5


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.1, 1.337])
def test_speed_moves_pitch_and_length(factor: float) -> None:
    found = augment(Clip("a", tone(440)), chosen("speed", factor=[factor, factor])).samples
    assert abs(len(found) - RATE / factor) < 0.0026 * RATE
    assert abs(loudest_frequency(found) - 440 * factor) < 3


@pytest.mark.parametrize("semitones", [-4, -1, 0, 2, 7])
def test_pitch_moves_without_the_length(semitones: float) -> None:
    found = augment(Clip("a", tone(440)), chosen("pitch", semitones=[semitones, semitones])).samples
    assert len(found) == RATE
    assert abs(loudest_frequency(found[2000:-2000]) - 440 * 2 ** (semitones / 12)) < 4


def test_ratios_have_small_denominators() -> None:
    assert nearest_ratio(1.1) == Fraction(11, 10)
    assert max(nearest_ratio(factor).denominator for factor in np.linspace(0.5, 2, 997)) <= 200
    assert len(resampled(speech(RATE), Fraction(4, 5))) == 20_000
    assert len(stretched(speech(RATE), 1.25)) == 20_000
    assert HOP * 4 == 512


@pytest.mark.parametrize("rt60", [0.2, 0.5, 1.0])
def test_a_generated_room_decays_as_it_should(rt60: float) -> None:
    """Schroeder's backward integration: from -5 to -25 dB in a third of rt60."""
    room = generated_room(rt60, -10, np.random.RandomState(3))
    assert (room[0], len(room)) == (1, round(rt60 * RATE))
    assert abs(10 * np.log10(np.sum(room[1:] ** 2)) + 10) < 1e-6
    decay = 10 * np.log10(np.cumsum(room[:0:-1] ** 2)[::-1] / np.sum(room[1:] ** 2))
    fell = np.searchsorted(-decay, 25) - np.searchsorted(-decay, 5)
    assert abs(3 * fell / RATE / rt60 - 1) < 0.1


def test_a_room_keeps_length_power_and_place() -> None:
    samples = np.zeros(8000, np.float32)
    samples[3000] = 0.5
    wet = in_room(samples, generated_room(0.3, -10, np.random.RandomState(0)))
    assert (len(wet), int(np.abs(wet).argmax())) == (8000, 3000)
    assert np.abs(wet[:3000]).max() < 1e-7
    assert abs(power(wet) / power(samples) - 1) < 1e-6


@pytest.mark.parametrize(("frequency", "decibels"), [(50, -48), (200, -3), (1000, 0), (3000, -3), (6000, -24)])
def test_a_band_is_left(frequency: float, decibels: float) -> None:
    found = in_band(tone(frequency, 4 * RATE), 200, 3000)[RATE:-RATE]
    assert abs(10 * np.log10(power(found) / power(tone(frequency, 4 * RATE))) - decibels) < 0.5


@given(share=st.floats(0, 1))
def test_a_share_of_samples_is_cut(share: float) -> None:
    samples = speech(2000)
    found = clipped(samples, share)
    assert abs(np.mean(found != samples) - share) < 0.002
    assert len(np.unique(np.abs(found[found != samples]))) <= 1


@given(length=st.integers(1, 50), there=st.integers(1, 50), seed=st.integers(0, 100))
def test_a_stretch_is_repeated_where_it_is_too_short(length: int, there: int, seed: int) -> None:
    found = fitted(np.arange(there), length, np.random.RandomState(seed))
    assert len(found) == length
    assert (np.diff(found) % there == 1 % there).all()


def test_samples_are_scaled_back_to_full_scale() -> None:
    np.testing.assert_array_equal(limited(np.array([0.5, -2.0])), np.float32([0.25, -1]))
    np.testing.assert_array_equal(limited(np.array([0.5, -1.0])), np.float32([0.5, -1]))


@pytest.mark.parametrize(("text", "separator", "joined"), [("first", " ", "first second"), ("", " ", "second")])
def test_a_neighbour_stands_behind_with_its_text(text: str, separator: str, joined: str) -> None:
    clip = Clip("a", speech(8000), text)
    found = augment(clip, chosen("concatenate", gap_seconds=[0.25, 0.25]), separator=separator)
    assert (found.text, found.id) == (joined, "a")
    np.testing.assert_array_equal(found.samples[:8000], clip.samples)
    np.testing.assert_array_equal(found.samples[8000:12_000], np.zeros(4000))
    assert 16_000 <= len(found.samples) <= 16_100


@pytest.mark.parametrize("format", ["opus", "mp3"])
def test_a_codec_changes_little_and_keeps_the_place(format: str) -> None:
    samples = tone(440) * np.hanning(RATE).astype(np.float32)
    for compression in (0.8, 1.0):
        levels = {"formats": [format], "compression": [compression, compression]}
        found = augment(Clip("a", samples), chosen("codec", **levels)).samples
        assert not np.array_equal(found, samples)
        correlation = np.fft.irfft(np.fft.rfft(found, 2 * RATE) * np.conj(np.fft.rfft(samples, 2 * RATE)))
        assert correlation[0] > 0.95 * correlation.max()
        assert power(found - samples) < 0.1 * power(samples)
