"""Clips of the demo corpus: the same bytes on every run, and noise as loud as it says."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")

from hf_asr.data import espeak, speaking
from hf_asr.data.audio import duration_of, load
from hf_asr.data.speaking import Clip, noise_for, record, speak_clips
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef

CLIP = Clip("a", "ten letters", "en", "f4", 190, 50, None, 0.0, 1.0)
CLIPS = [replace(CLIP, id=f"clip-{index}", rate=180 + index, noise_db=10.0 + index) for index in range(6)]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_clips_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "BLOCK", 4)
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        seconds = speak_clips(CLIPS, folder)
        # espeak-ng's state in this process must not matter.
        espeak.speak("something else before the second time", "ru")
    first, second = map(content, folders)
    assert first == second
    assert set(first) == {f"{clip.id}.wav" for clip in CLIPS}
    assert len(set(first.values())) == len(CLIPS)
    for clip in CLIPS:
        audio = AudioRef(path=str(tmp_path / "first" / f"{clip.id}.wav"))
        assert seconds[clip.id] == pytest.approx(duration_of(audio), abs=1e-6)
        assert len(load(audio)) == pytest.approx(16_000 * seconds[clip.id], abs=2)


@pytest.mark.parametrize("tilt", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("noise_db", [0.0, 10.0, 25.0])
def test_noise_is_as_far_below_the_speech_as_it_says(noise_db: float, tilt: float) -> None:
    samples = (0.1 * np.sin(np.arange(20_000) / 7)).astype(np.float32)
    noise = noise_for(replace(CLIP, noise_db=noise_db, noise_tilt=tilt), samples)
    found = 10 * np.log10(np.mean(samples**2) / np.mean(noise**2))
    assert noise.shape == samples.shape
    assert found == pytest.approx(noise_db, abs=0.01)


def test_a_tilt_makes_noise_darker() -> None:
    samples = np.ones(20_000, np.float32)

    def share_above_4_khz(tilt: float) -> float:
        power = np.abs(np.fft.rfft(noise_for(replace(CLIP, noise_db=10.0, noise_tilt=tilt), samples))) ** 2
        return float(power[int(len(power) * 4_000 / 11_025) :].sum() / power.sum())

    shares = [share_above_4_khz(tilt) for tilt in (0.0, 0.5, 1.0, 1.5)]
    assert shares[0] == pytest.approx(1 - 4_000 / 11_025, abs=0.03)
    assert shares == sorted(shares, reverse=True)


def test_clips_have_different_noise() -> None:
    samples = np.ones(5_000, np.float32)
    noises = [noise_for(replace(CLIP, id=id, noise_db=10.0), samples) for id in ("a", "b", "a")]
    assert not np.array_equal(noises[0], noises[1])
    assert np.array_equal(noises[0], noises[2])


def test_nothing_is_clipped_and_gain_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = np.full(10_000, 0.9, np.float32)
    monkeypatch.setattr(espeak, "speak", lambda *given: (speech, espeak.SAMPLE_RATE))
    noisy = record(replace(CLIP, noise_db=3.0))
    assert noisy.dtype == np.int16
    assert np.sum(np.abs(noisy.astype(int)) >= 2**15 - 2) <= 2
    quiet, full = record(replace(CLIP, gain=0.5)), record(CLIP)
    assert quiet.max() == pytest.approx(full.max() / 2, abs=1)


def test_the_worker_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; import hf_asr.data.speaking; print([m for m in ('torch', 'datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_worker_without_voices_says_so_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise UserError("install it")

    monkeypatch.setattr(espeak, "speak", refuse)
    assert speaking.main(tmp_path, [CLIP]) == {"user_error": "install it"}


def test_a_worker_tells_why_it_could_not_write(tmp_path: Path) -> None:
    assert speaking.main(tmp_path / "missing", [CLIP]) == {"errno": errno.ENOENT}
    with pytest.raises(FileNotFoundError):
        speak_clips([CLIP], tmp_path / "missing")


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ({"user_error": "install it"}, UserError, "install it"),
        ({"errno": errno.ENOSPC}, OSError, "No space left"),
    ],
)
def test_what_a_worker_answers_is_raised(
    answer: dict[str, object], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], 0, stdout=json.dumps(answer), stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *given, **options: done)
    with pytest.raises(error, match=message):
        speak_clips([CLIP], tmp_path)


def test_a_worker_that_dies_is_no_silence(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="expected a language that espeak-ng speaks"):
        speak_clips([replace(CLIP, language="xx")], tmp_path)
