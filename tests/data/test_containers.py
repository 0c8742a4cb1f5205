"""Cut files are noticed from their containers; whole ones never."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from hf_asr.data.audio import BrokenAudio, duration_of, encode, load
from hf_asr.data.containers import _frame_header, _xing_frames, inspect, with_length
from hf_asr.utterance import AudioRef

RATE = 16_000
NOISE = np.random.default_rng(1).normal(0, 0.1, 3 * RATE).astype(np.float32)


def headerless_mp3(rate: int = RATE) -> bytes:
    """An MP3 without the Xing frame, as Common Voice's are: nothing in it tells its length."""
    encoded = encode(NOISE, rate, "mp3")
    header = _frame_header(encoded, 0)
    assert header is not None
    assert _xing_frames(encoded[: header[0]]) is not None
    return encoded[header[0] :]


def id3(content: bytes) -> bytes:
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x04\x00\x00" + size + content


@pytest.mark.parametrize("format", ["wav", "wav_float", "flac", "mp3", "ogg", "opus"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_whole_files_have_no_fault(format: str, rate: int) -> None:
    assert inspect(encode(NOISE, rate, format)).fault == ""


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus"])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.83, 0.995])
def test_cut_files_are_broken(format: str, share: float) -> None:
    encoded = encode(NOISE, RATE, format)
    with pytest.raises(BrokenAudio, match=r"truncated|does not decode"):
        load(AudioRef(data=encoded[: int(len(encoded) * share)]))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("missing", [1, 3, 50, 1000])
def test_cut_mp3s_without_a_header_are_broken(rate: int, missing: int) -> None:
    whole = headerless_mp3(rate)
    assert inspect(whole).fault == ""
    assert "of its last MPEG frame only" in inspect(whole[:-missing]).fault


def test_one_to_three_bytes_of_a_last_frame_are_a_cut() -> None:
    whole, position = headerless_mp3(), 0
    for _ in range(40):
        position += _frame_header(whole, position)[0]  # type: ignore[index]
    assert inspect(whole[:position]).fault == ""
    for rest in (1, 2, 3):
        assert "truncated" in inspect(whole[: position + rest]).fault


def test_real_clips_are_whole_and_cut_ones_are_noticed(shared_data: Path) -> None:
    """A cut at a random byte passes only when it falls on a frame: 13 of 2,000 cuts of these clips."""
    clips = sorted((shared_data / "common_voice_6.1_sample").rglob("*.mp3"))[::4]
    random = np.random.default_rng(0)
    passed = 0
    for clip in clips:
        encoded = clip.read_bytes()
        assert inspect(encoded).fault == ""
        passed += not inspect(encoded[: int(random.integers(2000, len(encoded)))]).fault
    assert passed <= 3


@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), b"APETAGEX" + bytes(40), bytes(500), b"LYRICSBEGIN"])
@pytest.mark.parametrize("head", [b"", id3(b"TSSE\x00" + bytes(300))])
def test_tags_around_an_mp3_are_no_fault_and_no_time(head: bytes, tail: bytes) -> None:
    mp3 = headerless_mp3()
    ref = AudioRef(data=head + mp3 + tail)
    assert inspect(ref.data or b"").fault == ""
    assert duration_of(ref) == duration_of(AudioRef(data=mp3))


def test_a_cover_picture_does_not_make_a_clip_longer() -> None:
    """libsndfile takes the length of a headerless MP3 from the size of its file, picture included."""
    mp3 = headerless_mp3()
    assert duration_of(AudioRef(data=id3(bytes(90_000)) + mp3)) == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_variable_bit_rates_without_a_header_are_read_to_the_end(rate: int, channels: int) -> None:
    """libsndfile alone estimates the length from the first frame's bit rate and reads 30,672 of 48,000 samples."""
    samples = np.stack([NOISE] * channels, axis=1)
    encoded = encode(samples, rate, "mp3")
    ref = AudioRef(data=encoded[_frame_header(encoded, 0)[0] :])  # type: ignore[index]
    whole = load(AudioRef(data=encoded))
    assert len(load(ref)) == pytest.approx(len(whole), abs=0.15 * RATE)
    assert duration_of(ref) == pytest.approx(len(load(ref)) / RATE, abs=530 / rate)


def test_joined_mp3s_are_read_to_the_end() -> None:
    whole = headerless_mp3(48_000)
    one, two = (load(AudioRef(data=whole * times)) for times in (1, 2))
    assert abs(len(two) - 2 * len(one)) <= 530
    np.testing.assert_allclose(two[:10_000], one[:10_000], atol=1e-6)


def test_mp3s_with_headers_and_other_formats_stay_as_they_are() -> None:
    for encoded in (encode(NOISE, RATE, "mp3"), encode(NOISE, RATE, "wav"), b""):
        assert with_length(encoded, inspect(encoded)) is encoded


def test_fewer_frames_than_the_xing_header_promises() -> None:
    encoded = encode(NOISE, RATE, "mp3")
    size = _frame_header(encoded, 0)[0]  # type: ignore[index]
    position = size
    for _ in range(20):
        position += _frame_header(encoded, position)[0]  # type: ignore[index]
    assert "promises" in inspect(encoded[:position]).fault


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF - 36, 0x80000000])
def test_streamed_wavs_are_no_cut_ones(size: int) -> None:
    encoded = bytearray(encode(NOISE, RATE, "wav"))
    place = encoded.find(b"data")
    encoded[place + 4 : place + 8] = struct.pack("<I", size)
    assert inspect(bytes(encoded)).fault == ""
    assert len(load(AudioRef(data=bytes(encoded)))) == len(NOISE)


def test_a_chunk_before_the_samples_is_stepped_over() -> None:
    encoded = encode(NOISE, RATE, "wav")
    with_list = encoded[:12] + b"LIST" + struct.pack("<I", 7) + b"INFOabc\0" + encoded[12:]
    assert inspect(with_list).fault == ""
    assert "truncated" in inspect(with_list[:-10]).fault


@pytest.mark.parametrize("format", ["ogg", "opus"])
def test_chained_ogg_streams_are_refused(format: str) -> None:
    with pytest.raises(BrokenAudio, match="a chain of 2 Ogg streams"):
        load(AudioRef(data=encode(NOISE, RATE, format) * 2))


@pytest.mark.parametrize(
    "junk", [b"", b"R", b"RIFF", b"OggS", b"ID3", b"\xff", b"\xff\xfb", b"ID3\x04\x00\x00\xff\xff\xff\xff"]
)
def test_fragments_do_not_stop_the_reader(junk: bytes) -> None:
    inspect(junk)
    with pytest.raises(BrokenAudio):
        load(AudioRef(data=junk))
