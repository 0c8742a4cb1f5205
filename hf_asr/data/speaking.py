"""Clips of the demo corpus to WAV files, in processes of their own: ``python -m hf_asr.data.speaking FOLDER``.

espeak-ng keeps the phase of its oscillators from clip to clip, so that samples are reproducible only in a fresh process
that says the same clips in the same order: each block of :data:`BLOCK` clips gets one, which also uses all cores. It
imports numpy and nothing heavier; WAV is written by the standard library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from hf_asr.data import espeak
from hf_asr.errors import UserError
from hf_asr.utterance import Seconds

# 2 s of work, against 0.3 s to start a process.
BLOCK = 600
_NOISE_SAMPLES = 2**18


@dataclass(frozen=True, slots=True)
class Clip:
    """What is said and how it is recorded.

    Attributes:
        id: Name of the clip, and of its file.
        text: Words.
        language: espeak-ng's voice.
        variant: Its timbre.
        rate: Words a minute.
        pitch: 0 to 99.
        noise_db: Signal-to-noise ratio in dB; None for no noise.
        noise_tilt: Spectrum of the noise: its power falls as frequency to the power of this (0 white, 1 pink).
        gain: Factor of the whole.
    """

    id: str
    text: str
    language: str
    variant: str
    rate: int
    pitch: int
    noise_db: float | None
    noise_tilt: float
    gain: float


def speak_clips(clips: Sequence[Clip], folder: Path) -> dict[str, Seconds]:
    """Write ``<folder>/<id>.wav`` for every clip; return id to duration.

    The files are a function of ``clips`` alone, whatever the number of cores.

    Raises:
        UserError: espeak-ng cannot be used.
        OSError: The files cannot be written.
        RuntimeError: A process failed otherwise; with what it said.
    """
    blocks = [clips[first : first + BLOCK] for first in range(0, len(clips), BLOCK)]
    seconds: dict[str, Seconds] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = pool.map(partial(_speak_block, folder=folder), blocks)
        for part in track(parts, "speaking", len(blocks), console=Console(stderr=True), transient=True):
            seconds |= part
    return seconds


def record(clip: Clip) -> np.ndarray:
    """Say a clip and add its noise; return 16-bit samples (T,) at ``espeak.SAMPLE_RATE``."""
    samples, _ = espeak.speak(clip.text, clip.language, clip.rate, clip.pitch, clip.variant)
    if clip.noise_db is not None:
        samples = samples + noise_for(clip, samples)
    loud = np.abs(samples).max()
    # Noise can carry a sample beyond full scale, where it would be clipped.
    return (samples * (clip.gain / max(1.0, loud)) * (2**15 - 1)).astype(np.int16)


def noise_for(clip: Clip, samples: np.ndarray) -> np.ndarray:
    """Return noise (T,) that is ``clip.noise_db`` below ``samples`` (T,) in power; a stretch that its id chooses."""
    recorded = _noise(clip.noise_tilt)
    first = zlib.crc32(clip.id.encode()) % (len(recorded) - len(samples))
    stretch = recorded[first : first + len(samples)]
    wanted = np.sqrt(np.mean(samples**2) / 10 ** (clip.noise_db / 10)) if clip.noise_db is not None else 0.0
    return (stretch * (wanted / np.sqrt(np.mean(stretch**2)))).astype(np.float32)


@lru_cache(maxsize=8)
def _noise(tilt: float) -> np.ndarray:
    """Return 12 s of noise: white noise shaped once, since a transform of each clip's own length takes 4 ms."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(_NOISE_SAMPLES))
    return np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** (tilt / 2), _NOISE_SAMPLES)


def _speak_block(clips: Sequence[Clip], folder: Path) -> dict[str, Seconds]:
    """Let a fresh process say some clips."""
    done = subprocess.run(
        [sys.executable, "-m", "hf_asr.data.speaking", str(folder)],
        input=json.dumps([asdict(clip) for clip in clips]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"speaking the demo corpus failed: {done.stderr}")
    answer = json.loads(done.stdout)
    if "user_error" in answer:
        raise UserError(answer["user_error"])
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]), str(folder))
    return dict(answer["seconds"])


def main(folder: Path, clips: Sequence[Clip]) -> dict[str, Any]:
    """Say some clips in this process; return what it answers: ``seconds`` by id, or why it could not."""
    seconds = {}
    try:
        for clip in clips:
            samples = record(clip)
            _write_wav(folder / f"{clip.id}.wav", samples)
            seconds[clip.id] = len(samples) / espeak.SAMPLE_RATE
    except UserError as error:
        return {"user_error": str(error)}
    except OSError as error:
        return {"errno": error.errno}
    return {"seconds": seconds}


def _write_wav(path: Path, samples: np.ndarray) -> None:
    with open(path, "wb") as content, wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(espeak.SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), [Clip(**values) for values in json.load(sys.stdin)])))
