"""Small clips on disk and the rows that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.corpora import Split
from hf_asr.utterance import ROW_TYPES, AudioRef, Drops, Utterance


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    """Return (T,) float32 white noise at 16 kHz."""
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def tone(seconds: float, hertz: float = 440.0) -> np.ndarray:
    """Return a (T,) float32 sine at half of full scale."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def write_clip(path: Path, samples: np.ndarray) -> Path:
    """Write a 16-bit WAV at 16 kHz."""
    path.write_bytes(encode(samples, SAMPLE_RATE, "wav"))
    return path


def row_of(path: Path | str, text: str = "hello world", id: str = "") -> dict[str, Any]:
    """Return a corpus row for a file."""
    return Utterance(id or Path(path).stem, AudioRef(path=str(path)), text, speaker="speaker").as_row()


def split_of(rows: Sequence[Mapping[str, Any]], name: str = "train") -> Split:
    """Return a map-style split of rows."""
    return Split(
        name, datasets.Dataset.from_list([dict(row) for row in rows], features=_features(ROW_TYPES)), Drops(), None, []
    )


def _features(types: Mapping[str, Any]) -> datasets.Features:
    return datasets.Features(
        {name: _features(kind) if isinstance(kind, Mapping) else datasets.Value(kind) for name, kind in types.items()}
    )
