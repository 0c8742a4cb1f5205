"""Decoding, levels, trimming: what comes out, and what is refused with which words."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from hf_asr.data import audio
from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio
from hf_asr.utterance import AudioRef

LOSSLESS = ("wav", "wav_float", "flac")
ALL_FORMATS = tuple(audio.FORMATS)


def tone(seconds: float = 1.0, rate: int = SAMPLE_RATE, hertz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def speechlike(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Noise whose level changes ten times a second, so that every place in it is unlike every other."""
    random = np.random.default_rng(3)
    level = np.repeat(random.uniform(0.02, 0.3, round(seconds * 10) + 1), rate // 10)[: round(seconds * rate)]
    smooth = np.convolve(random.normal(size=len(level)), np.ones(6) / 6, "same")
    return (level * smooth).astype(np.float32)


def bytes_of(samples: np.ndarray, rate: int = SAMPLE_RATE, format: str = "wav") -> AudioRef:
    return AudioRef(data=audio.encode(samples, rate, format))


@pytest.mark.parametrize("format", ALL_FORMATS)
@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
def test_every_format_and_rate_comes_back_as_16_khz_mono(format: str, rate: int) -> None:
    samples = audio.load(bytes_of(tone(1.0, rate), rate, format))
    assert samples.dtype == np.float32
    assert samples.shape == (SAMPLE_RATE,)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("rate", [11_025, 22_050, 32_000, 44_100, 96_000, 15_999])
def test_uneven_rates_keep_length_and_pitch(rate: int) -> None:
    samples = audio.load(bytes_of(tone(2.0, rate), rate))
    assert abs(len(samples) - 2 * SAMPLE_RATE) <= 2
    assert abs(int(np.abs(np.fft.rfft(samples)).argmax()) / 2 - 440) <= 0.5


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("length", [1, 2, 40, 41, 959, 960, 961, 100_003])
def test_resampling_is_torchaudios(rate: int, length: int) -> None:
    samples = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    expected = torchaudio.transforms.Resample(rate, SAMPLE_RATE)(torch.from_numpy(samples)).numpy()
    found = audio.resample(samples, rate)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("format", audio.FORMATS)
def test_a_file_gives_the_samples_of_its_bytes(format: str, tmp_path: Path) -> None:
    """Also under a name whose ending stands for a format without a header."""
    data = audio.encode(tone(1.3, 48_000), 48_000, format)
    for name in ("clip", "clip.raw", "clip.gsm", "clip.wav"):
        (tmp_path / name).write_bytes(data)
        found = audio.load(AudioRef(path=str(tmp_path / name)))
        np.testing.assert_array_equal(found, audio.load(AudioRef(data=data)))


def test_the_resampler_of_a_rate_is_made_once() -> None:
    audio._resampler.cache_clear()
    for _ in range(3):
        audio.load(bytes_of(tone(0.1, 8_000), 8_000))
    assert audio._resampler.cache_info().misses == 1


@pytest.mark.parametrize("format", LOSSLESS)
def test_eight_channels_become_their_mean(format: str) -> None:
    channels = np.stack([tone(0.2) * factor for factor in (1, 0, 0, 0, 0, 0, 0, 1)], axis=1)
    torch.testing.assert_close(
        torch.from_numpy(audio.load(bytes_of(channels, format=format))),
        torch.from_numpy(tone(0.2) / 4),
        atol=2e-5,
        rtol=0,
    )


@pytest.mark.parametrize("format", ["mp3", "ogg", "opus"])
def test_lossy_stereo_becomes_one_channel(format: str) -> None:
    assert audio.load(bytes_of(np.stack([tone()] * 2, axis=1), format=format)).shape == (SAMPLE_RATE,)


def test_a_file_a_member_of_an_archive_and_bytes_are_one_clip(tmp_path: Path) -> None:
    encoded = audio.encode(tone(), SAMPLE_RATE, "flac")
    (tmp_path / "clip.flac").write_bytes(encoded)
    (tmp_path / "archive.tar").write_bytes(b"x" * 512 + encoded + b"y" * 512)
    member = AudioRef(path=str(tmp_path / "archive.tar"), offset=512, size=len(encoded))
    whole = audio.load(AudioRef(path=str(tmp_path / "clip.flac")))
    for ref in (member, AudioRef(data=encoded)):
        np.testing.assert_array_equal(audio.load(ref), whole)
        assert audio.duration_of(ref) == 1.0


@pytest.mark.parametrize("format", ALL_FORMATS)
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (2.5, 4.0), (3.217, 5.001), (6.1, None), (0.0, 8.05)])
def test_a_segment_is_the_same_slice_of_the_whole(tmp_path: Path, format: str, start: float, end: float | None) -> None:
    path = tmp_path / f"long.{format}"
    path.write_bytes(audio.encode(speechlike(8.0), SAMPLE_RATE, format))
    whole = audio.load(AudioRef(path=str(path)))
    segment = audio.load(AudioRef(path=str(path), start=start, end=end))
    expected = whole[round(start * SAMPLE_RATE) : None if end is None else round(end * SAMPLE_RATE)]
    assert len(segment) == len(expected)
    np.testing.assert_allclose(segment, expected, atol=5e-3 if format == "opus" else 1e-6)


@pytest.mark.parametrize("rate", [12_000, 22_050, 44_100])
def test_mp3_segments_do_not_suffer_from_the_bit_reservoir(rate: int) -> None:
    """Without a lead-in, 1 of 5 segments was wrong by up to 0.1 of full scale at 22,050 Hz."""
    ref = bytes_of(speechlike(12.0, rate), rate, "mp3")
    whole = audio._decode_whole(ref)[0]
    for start in np.arange(0.3, 9.0, 0.37):
        part = audio._decode_segment(AudioRef(data=ref.data, start=float(start), end=float(start) + 1))[0]
        np.testing.assert_allclose(part, whole[round(start * rate) : round((start + 1) * rate)], atol=1e-6)


def test_opus_segments_of_real_speech_are_in_place(shared_data: Path) -> None:
    path = str(sorted((shared_data / "gigaspeech_layout/audio").rglob("*.opus"))[0])
    whole = audio.load(AudioRef(path=path))
    for start in np.arange(1.03, 50.0, 4.77):
        part = audio.load(AudioRef(path=path, start=float(start), end=float(start) + 2.0))
        # One sample off would differ by 0.1 and more.
        np.testing.assert_allclose(
            part, whole[round(start * SAMPLE_RATE) : round((start + 2) * SAMPLE_RATE)], atol=2e-3
        )


def test_only_the_segment_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(audio.encode(tone(60.0), SAMPLE_RATE, "wav"))
    monkeypatch.setattr(audio, "_BLOCK", 1)
    reads = []
    read = audio.soundfile.SoundFile.read

    def counted(self: object, frames: int = -1, **rest: object) -> np.ndarray:
        reads.append(frames)
        return read(self, frames, **rest)

    monkeypatch.setattr(audio.soundfile.SoundFile, "read", counted)
    audio.load(AudioRef(path=str(path), start=30.0, end=30.05))
    assert sum(reads) == SAMPLE_RATE // 20


def test_a_segment_may_end_a_little_after_its_file() -> None:
    data = audio.encode(tone(2.0), SAMPLE_RATE, "opus")
    assert len(audio.load(AudioRef(data=data, start=1.0, end=2.05))) == SAMPLE_RATE


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (1.0, 2.5, "lasts 2.000 s"),
        (3.0, 4.0, "lasts 2.000 s"),
        (2.5, None, "a segment from 2.5 s"),
        (1.0, 1.0, "a segment from 1.0 s to 1.0 s"),
        (1.5, 0.5, "a segment from 1.5 s to 0.5 s"),
        (-1.0, 0.5, "a segment from -1.0 s"),
    ],
)
def test_a_segment_outside_its_file_is_broken(start: float, end: float | None, message: str) -> None:
    with pytest.raises(BrokenAudio, match=message):
        audio.load(AudioRef(data=audio.encode(tone(2.0), SAMPLE_RATE, "wav"), start=start, end=end))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mp3", None, "No such file"),
        ("empty.mp3", b"", "is empty"),
        (
            "text.mp3",
            b"Dear diary, today I pretended to be a recording.\n" * 40,
            "no audio .* begins with b'Dear diary, '",
        ),
        ("text16.mp3", "Dear diary".encode("utf-16") * 200, "UTF-16 text"),
        ("page.mp3", b"<!DOCTYPE html><html><head>404</head></html>", "no audio"),
        ("zeros.wav", bytes(4000), "no audio"),
        ("silent.wav", audio.encode(tone(0.0), SAMPLE_RATE, "wav"), "no samples"),
        ("nothing.ogg", audio.encode(tone(0.0), SAMPLE_RATE, "ogg"), "no samples"),
        (
            "nan.wav",
            audio.encode(np.array([0.1, np.nan, 0.2], np.float32), SAMPLE_RATE, "wav_float"),
            "NaN or infinite",
        ),
        (
            "inf.wav",
            audio.encode(np.array([0.1, np.inf, 0.2], np.float32), SAMPLE_RATE, "wav_float"),
            "NaN or infinite",
        ),
        ("rate.wav", audio.encode(tone(0.1), 7, "wav"), "a sampling rate of 7 Hz"),
    ],
)
def test_broken_files_say_why(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BrokenAudio, match=message) as caught:
        audio.load(AudioRef(path=str(path)))
    assert name in str(caught.value) or "sampling rate" in message


def test_one_channel_of_eight_with_nan_is_noticed() -> None:
    channels = np.zeros((800, 8), np.float32)
    channels[17, 5] = np.nan
    with pytest.raises(BrokenAudio, match="NaN"):
        audio.load(bytes_of(channels, format="wav_float"))


@pytest.mark.parametrize("make", ["folder", "loop", "pipe", "nul"])
def test_paths_that_are_no_files(tmp_path: Path, make: str) -> None:
    path = str(tmp_path / "x.wav")
    if make == "folder":
        os.mkdir(path)
    elif make == "loop":
        os.symlink(path, path)
    elif make == "pipe":
        os.mkfifo(path)
    else:
        path += "\0"
    for function in (audio.load, audio.duration_of):
        with pytest.raises(BrokenAudio, match=r"is not a file|cannot be read"):
            function(AudioRef(path=path))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(audio.encode(tone(), SAMPLE_RATE, "wav"))
    path.chmod(0)
    with pytest.raises(BrokenAudio, match="cannot be read"):
        audio.load(AudioRef(path=str(path)))


def test_an_archive_that_ends_inside_a_member(tmp_path: Path) -> None:
    path = tmp_path / "cut.tar"
    path.write_bytes(audio.encode(tone(), SAMPLE_RATE, "wav"))
    with pytest.raises(BrokenAudio, match="truncated"):
        audio.load(AudioRef(path=str(path), offset=0, size=10**6))


def test_a_flac_without_a_length_is_refused_and_not_half_read() -> None:
    """libsndfile gives it 2**63 - 1 samples and cannot read to its end."""
    encoded = bytearray(audio.encode(tone(), SAMPLE_RATE, "flac"))
    encoded[21] &= 0xF0
    encoded[22:26] = bytes(4)
    for function in (audio.load, audio.duration_of):
        with pytest.raises(BrokenAudio, match="written into a pipe"):
            function(AudioRef(data=bytes(encoded)))


@pytest.mark.parametrize("format", ALL_FORMATS)
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_duration_is_that_of_the_decoded_clip(format: str, rate: int) -> None:
    ref = bytes_of(speechlike(3.3, rate), rate, format)
    assert audio.duration_of(ref) == pytest.approx(len(audio.load(ref)) / SAMPLE_RATE, abs=1e-3)


def test_duration_of_a_segment_needs_no_file() -> None:
    assert audio.duration_of(AudioRef(path="/nowhere/at/all.opus", start=1.25, end=3.5)) == 2.25


def test_duration_from_a_start_to_the_end() -> None:
    ref = AudioRef(data=audio.encode(tone(2.0), SAMPLE_RATE, "wav"), start=0.5)
    assert audio.duration_of(ref) == 1.5
    with pytest.raises(BrokenAudio, match=r"lasts 2\.000 s"):
        audio.duration_of(AudioRef(data=ref.data, start=2.0))


def test_all_real_clips_load_and_their_headers_tell_their_length(shared_data: Path) -> None:
    """400 Common Voice clips: none is taken for broken, and no header is off by a millisecond."""
    clips = sorted((shared_data / "common_voice_6.1_sample").rglob("*.mp3"))
    assert len(clips) == 400
    for clip in clips:
        ref = AudioRef(path=str(clip))
        assert abs(audio.duration_of(ref) - len(audio.load(ref)) / SAMPLE_RATE) < 1e-3


@pytest.mark.parametrize("pattern", ["jfk.flac", "fsdd/recordings/0_george_*.wav", "emodb/clips/03a*.opus"])
def test_other_real_clips_load(shared_data: Path, pattern: str) -> None:
    clips = sorted(shared_data.glob(pattern))
    assert clips
    for clip in clips:
        samples = audio.load(AudioRef(path=str(clip)))
        assert 0 < np.abs(samples).max() <= 1.5
        assert audio.duration_of(AudioRef(path=str(clip))) == pytest.approx(len(samples) / SAMPLE_RATE, abs=1e-3)


@pytest.mark.parametrize(
    ("level", "peak", "rms"), [("none", 0.05, 0.05 / 2**0.5), ("peak", 0.8913, 0.6302), ("rms", 0.1414, 0.1)]
)
def test_levels(level: str, peak: float, rms: float) -> None:
    samples = audio.normalize_level(tone(1.0, peak=0.05), level)
    assert samples.dtype == np.float32
    assert np.abs(samples).max() == pytest.approx(peak, rel=1e-3)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(rms, rel=1e-3)


def test_rms_never_passes_full_scale() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[100] = 0.5
    assert np.abs(audio.normalize_level(click, "rms")).max() == pytest.approx(1.0)


@pytest.mark.parametrize("level", audio.LEVELS)
@pytest.mark.parametrize("value", [0.0, 1e-30, -1e-6])
def test_silence_keeps_its_level(level: str, value: float) -> None:
    samples = np.full(800, value, np.float32)
    np.testing.assert_array_equal(audio.normalize_level(samples, level), samples)


def test_unknown_level_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="none, peak, rms, found 'loud'"):
        audio.normalize_level(tone(), "loud")


def test_trimming_keeps_a_margin() -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    samples = np.concatenate([silence, tone(0.5), silence])
    trimmed = audio.trim_silence(samples)
    assert len(trimmed) == pytest.approx(0.7 * SAMPLE_RATE, abs=audio._TRIM_FRAME)
    np.testing.assert_array_equal(trimmed[:1600], 0)
    assert np.abs(trimmed[1600:2400]).max() > 0.4


def test_trimming_hears_quiet_speech_above_a_noise_floor() -> None:
    floor = np.random.default_rng(0).normal(0, 1e-4, 3 * SAMPLE_RATE).astype(np.float32)
    floor[SAMPLE_RATE : 2 * SAMPLE_RATE] += tone(1.0, peak=0.05)
    assert len(audio.trim_silence(floor)) == pytest.approx(1.2 * SAMPLE_RATE, abs=2 * audio._TRIM_FRAME)


@pytest.mark.parametrize(
    "samples", [np.zeros(0, np.float32), np.zeros(5, np.float32), np.zeros(9_999, np.float32), tone(0.01), tone(1.0)]
)
def test_trimming_leaves_what_has_no_silence_around_it(samples: np.ndarray) -> None:
    np.testing.assert_array_equal(audio.trim_silence(samples), samples)


def test_prepare_trims_before_it_sets_the_level() -> None:
    samples = np.concatenate([np.zeros(4 * SAMPLE_RATE, np.float32), tone(1.0, peak=0.05)])
    prepared = audio.prepare(bytes_of(samples), level="rms", trim=True)
    assert len(prepared) < 1.2 * SAMPLE_RATE
    assert np.sqrt(np.mean(prepared[1600:] ** 2)) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("rate", "format", "message"),
    [
        (16_000, "m4a", "must be one of wav, .* found 'm4a'"),
        (22_050, "opus", "opus cannot hold 1 channels at 22050 Hz"),
    ],
)
def test_encode_refuses_what_it_cannot_write(rate: int, format: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        audio.encode(tone(), rate, format)


def test_encode_clips_and_does_not_wrap_around() -> None:
    loud = audio.load(bytes_of(tone(peak=4.0)))
    assert np.sign(loud[5]) == np.sign(tone()[5])
    assert np.abs(loud).max() <= 1.0


def test_minutes_of_vorbis_are_written() -> None:
    """libsndfile 1.2 crashes when it gets them in one write."""
    assert audio.duration_of(bytes_of(np.zeros(150 * SAMPLE_RATE, np.float32), format="ogg")) == 150.0
