"""The clips of all rows: MP3s of one length, with texts of one number of tokens.

Real speech of HF_ASR_SHARED_DATA, else of ../shared/data (gigaspeech_layout there); without either, what espeak-ng
says, and the row tells so. Cut and encoded once into the folder of the run; both sides read the same files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torchaudio

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audio import SAMPLE_RATE, encode, load
from hf_asr.data.corpora import build_splits
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef

# What Common Voice has: both sides resample.
MP3_RATE = 48_000
# Language, task and no-timestamps before the text, the end behind it.
SPECIAL_LABELS = 4
# Enough clips of each for windows that are full of them.
SPEAKERS = 4
PROJECT = Path(__file__).resolve().parents[1]
SHARED = "HF_ASR_SHARED_DATA"
# Its clips, the model that decodes, and the tokenizer of the one that is trained.
PARTS = ("gigaspeech_layout", "whisper", "whisper-tokenizer-multilingual")


@dataclass(frozen=True)
class Speech:
    """Clips on disk.

    Attributes:
        manifest: TSV with path, text, speaker, seconds.
        clips: Their number.
        seconds: Length of each.
        label_tokens: Labels of each.
        source: Where the speech is from, in words.
    """

    manifest: Path
    clips: int
    seconds: float
    label_tokens: int
    source: str

    def rows(self) -> list[dict[str, Any]]:
        """Return path, text, speaker, seconds of every clip."""
        header, *lines = self.manifest.read_text().splitlines()
        rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
        return [row | {"path": str(self.manifest.parent / row["path"])} for row in rows]


def shared_folder() -> Path | None:
    """Return the folder of real speech; None where there is none.

    Raises:
        UserError: HF_ASR_SHARED_DATA names a folder that is none: figures of other speech than asked for.
    """
    given = os.environ.get(SHARED)
    folder = Path(given or PROJECT.parent / "shared" / "data").resolve()
    missing = [name for name in PARTS if not (folder / name).is_dir()]
    if given and missing:
        raise UserError(
            f"{SHARED}: expected a folder with {', '.join(PARTS)}, found no {missing[0]} in {folder}. Name another, or "
            "unset it."
        )
    return None if missing else folder


def make_speech(
    folder: Path, clips: int, *, seconds: float = 5.0, label_tokens: int = 24, special: int = SPECIAL_LABELS
) -> Speech:
    """Cut clips of ``seconds`` and write them with their manifest.

    Args:
        folder: Where they go.
        clips: How many.
        seconds: Length of each.
        label_tokens: Labels of each: ``special`` ones and as many times "the", one token of any Whisper tokenizer.
        special: Labels that are no text.
    """
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    real = shared_folder()
    place = SHARED if os.environ.get(SHARED) else "../shared/data"
    source = f"speechocean762 ({place}/gigaspeech_layout)" if real else "synthetic: espeak-ng's voices"
    pieces = _cut(_real(real, seconds) if real else _spoken(folder), round(seconds * SAMPLE_RATE))
    lines = ["path\ttext\tspeaker\tseconds"]
    text = " ".join(["the"] * (label_tokens - special))
    upsample = torchaudio.transforms.Resample(SAMPLE_RATE, MP3_RATE)
    for number, samples in zip(range(clips), pieces, strict=False):
        data = encode(upsample(_tensor(samples)).numpy(), MP3_RATE, "mp3")
        (folder / "clips" / f"{number:05d}.mp3").write_bytes(data)
        lines.append(f"clips/{number:05d}.mp3\t{text}\tspeaker{number % SPEAKERS}\t{seconds}")
    assert len(lines) == clips + 1, f"expected speech for {clips} clips, found {len(lines) - 1}"
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return Speech(folder / "manifest.tsv", clips, seconds, label_tokens, source)


def _tensor(samples: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(samples))


def _cut(recordings: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield pieces of one size from recordings laid end to end."""
    held = np.zeros(0, dtype=np.float32)
    for samples in recordings:
        held = np.concatenate([held, samples])
        while len(held) >= size:
            yield held[:size]
            held = held[size:]


def _real(folder: Path, seconds: float) -> Iterator[np.ndarray]:
    """Yield the beginning of each speaker's recording, then the parts behind it."""
    files = sorted((folder / "gigaspeech_layout" / "audio").rglob("*.opus"))
    for part in range(8):
        for file in files:
            yield load(AudioRef(str(file), start=part * seconds, end=(part + 1) * seconds))


def _spoken(folder: Path) -> Iterator[np.ndarray]:
    data = DataArguments(corpus="synthetic", language="en", path=str(folder / "synthetic"))
    for split in build_splits(data, seed=0).values():
        for row in split.rows:
            yield load(AudioRef(**row["audio"]))
