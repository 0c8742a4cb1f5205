"""Folders of noises and impulse responses: what is drawn, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hf_asr.config.augmentations import Noise, Reverb
from hf_asr.data.audio import encode
from hf_asr.data.augment import Clip, build_augmenter
from hf_asr.data.augment_folders import open_recordings
from hf_asr.data.augment_signals import from_direct_sound, power
from hf_asr.errors import UserError


def write(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(samples.astype(np.float32), rate, "wav_float"))
    return path


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("missing", ["augment.noise.folder: expected a folder of recordings", "nothing there", "Check the path"]),
        ("file", ["expected a folder of recordings", "found a file"]),
        ("empty", ["expected recordings (.wav, .flac", "found it empty", "Put some there"]),
        ("texts", ["expected recordings (.wav, .flac", "found 2 files of other kinds"]),
        ("broken", ["expected recordings that can be decoded", "found none among 2", "Replace them"]),
    ],
)
def test_a_folder_with_nothing_to_use(tmp_path: Path, made: str, words: list[str]) -> None:
    folder = tmp_path / "noises"
    if made == "file":
        folder.write_text("x")
    elif made != "missing":
        folder.mkdir()
    if made in ("texts", "broken"):
        for name in "ab":
            (folder / f"{name}{'.txt' if made == 'texts' else '.wav'}").write_text("no audio")
    with pytest.raises(UserError) as error:
        build_augmenter({"noise": Noise(folder=str(folder))}, 0)
    assert [word for word in [*words, str(folder)] if word not in str(error.value)] == []


def test_an_empty_folder_of_rooms_names_its_own_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"augment\.reverb\.folder: expected recordings"):
        build_augmenter({"reverb": Reverb(folder=str(tmp_path))}, 0)


def test_recordings_are_drawn_evenly_and_broken_ones_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, name in enumerate(["a.wav", "deeper/b.WAV", "c.flac"], 1):
        write(tmp_path / name, np.full(800, number / 10))
    (tmp_path / "0_broken.wav").write_bytes(b"RIFF")
    recordings = open_recordings(str(tmp_path), "augment.noise.folder")
    assert len(recordings.files) == 4
    random = np.random.RandomState(0)
    drawn = [round(float(recordings.draw(random)[0]), 1) for _ in range(200)]
    counts = [drawn.count(level) for level in (0.1, 0.2, 0.3)]
    assert sum(counts) == 200 and min(counts) > 30
    assert "0_broken.wav" in caplog.text


def test_only_a_stretch_of_a_long_recording_is_taken(tmp_path: Path) -> None:
    write(tmp_path / "long.wav", np.linspace(0, 1, 160_000))
    recordings = open_recordings(str(tmp_path), "augment.noise.folder")
    random = np.random.RandomState(0)
    stretches = [recordings.draw(random, 0.5) for _ in range(20)]
    assert {len(stretch) for stretch in stretches} == {8000}
    assert len({float(stretch[0]) for stretch in stretches}) == 20
    assert len(recordings.draw(random)) == 160_000


@pytest.mark.parametrize("seconds", [0.1, 3.0])
def test_noise_of_a_folder_alone_at_its_ratio(tmp_path: Path, seconds: float) -> None:
    hum = 0.2 * np.sin(2 * np.pi * 100 * np.arange(int(seconds * 44_100)) / 44_100)
    write(tmp_path / "hum.wav", hum, 44_100)
    settings = Noise(probability=1, kinds=[], folder=str(tmp_path), snr_db=[20, 20])
    clip = Clip("a", np.random.RandomState(0).uniform(-0.1, 0.1, 16_000).astype(np.float32))
    noise = build_augmenter({"noise": settings}, 0)(clip, 0).samples - clip.samples
    assert abs(10 * np.log10(power(clip.samples) / power(noise)) - 20) < 0.1
    assert abs(np.abs(np.fft.rfft(noise)).argmax() - 100) <= 1


def test_a_recorded_room_begins_at_its_direct_sound(tmp_path: Path) -> None:
    response = np.zeros(1000)
    response[[50, 300]] = 0.8, -0.4
    write(tmp_path / "room.wav", response)
    clip = Clip("a", np.eye(1, 4000, 100, dtype=np.float32)[0] * 0.5)
    wet = build_augmenter({"reverb": Reverb(probability=1, folder=str(tmp_path))}, 0)(clip, 0).samples
    assert np.flatnonzero(np.abs(wet) > 1e-4).tolist() == [100, 350]
    np.testing.assert_allclose(wet[350] / wet[100], -0.5, rtol=1e-4)
    assert from_direct_sound(response)[0] == 0.8
