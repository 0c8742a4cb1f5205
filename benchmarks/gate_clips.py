"""The clips of gate (a): clean, with noise, and long ones joined of neighbours; their speakers in two halves."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.config.parser import load_arguments
from hf_asr.data.audio import SAMPLE_RATE, prepare
from hf_asr.data.augment_signals import pink_noise, with_noise
from hf_asr.data.corpora import build_splits
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef

CONDITIONS = ("clean", "noisy", "long")
# Long clips come to at most these lengths in turn, in seconds.
LONG_SECONDS = (8.0, 15.0, 25.0)
SHORTEST = 1.0


@dataclass(frozen=True)
class GateClip:
    """A clip, or several of one speaker behind each other.

    Attributes:
        id: Their ids.
        speaker: Who speaks.
        text: What is said.
        seconds: Length, as the corpus has it.
        audio: Where its parts are.
        noise_db: Level of the speech above pink noise, in dB; None without noise.
    """

    id: str
    speaker: str
    text: str
    seconds: float
    audio: tuple[AudioRef, ...]
    noise_db: float | None = None

    def samples(self, level: str = "none", trim: bool = False) -> np.ndarray:
        """Return (T,) float32 at 16 kHz; the noise is a function of the id."""
        joined = np.concatenate([prepare(part, level, trim) for part in self.audio])
        if self.noise_db is None:
            return joined
        random = np.random.RandomState(zlib.crc32(self.id.encode()))
        return np.clip(with_noise(joined, pink_noise(len(joined), random), self.noise_db), -1, 1).astype(np.float32)

    @property
    def words_per_second(self) -> float:
        """How fast it is spoken."""
        return len(self.text.split()) / self.seconds


def configuration(configs: Sequence[str], overrides: Sequence[str]) -> Arguments:
    """Return the user's configuration, else that of the shared data: its Whisper, and all speakers of its two corpora.

    Raises:
        UserError: There is neither.
    """
    if configs:
        return load_arguments(configs, overrides)
    shared = Path(os.environ.get("HF_ASR_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    manifest, folder = shared / "speechocean762_dev" / "manifest.tsv", shared / "gigaspeech_layout"
    if not (manifest.is_file() and folder.is_dir()):
        raise UserError(f"expected speech in {shared}, found none. Set HF_ASR_SHARED_DATA, or give --config.")
    data = DataArguments(language="en", text_pipeline="sentence_case")
    columns = {"audio": "path", "duration": "seconds"}
    clips = {"corpus": "manifest", "path": str(manifest), "splits": {"train": str(manifest)}, "columns": columns}
    data.sources = [clips, {"corpus": "gigaspeech", "path": str(folder), "subset": "XL"}]
    return Arguments(ExperimentArguments("gates"), ModelArguments(str(shared / "whisper")), data)


def read_clips(arguments: Arguments, split: str, limit: int | None) -> list[GateClip]:
    """Return the clips of a split that are a second or longer, speaker by speaker in turn up to ``limit``."""
    rows = build_splits(arguments.data, seed=arguments.experiment.seed, names=[split])[split].rows
    clips = [_clip(row) for row in rows if row["duration"] is not None and row["duration"] >= SHORTEST]
    if not clips or not all(clip.speaker for clip in clips):
        raise UserError(
            f"data: expected clips of {split} with speakers and durations, since speakers are drawn, found "
            f"{len(clips)} clips of {len({clip.speaker for clip in clips})} speakers. Give data.columns.speaker."
        )
    return sorted(in_turns(clips)[:limit], key=lambda clip: clip.id)


def in_turns(clips: Iterable[GateClip]) -> list[GateClip]:
    """Return clips so that every speaker's first one comes before anybody's second."""
    by_speaker: dict[str, list[GateClip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    turns = [(turn, speaker, clip) for speaker, own in by_speaker.items() for turn, clip in enumerate(own)]
    return [clip for _, _, clip in sorted(turns, key=lambda item: item[:2])]


def of_condition(clips: Sequence[GateClip], condition: str, noise_db: float) -> list[GateClip]:
    """Return the clips of ``clean``, ``noisy`` or ``long``."""
    if condition == "noisy":
        return [replace(clip, noise_db=noise_db) for clip in clips]
    return list(clips) if condition == "clean" else joined(clips)


def joined(clips: Sequence[GateClip], lengths: Sequence[float] = LONG_SECONDS) -> list[GateClip]:
    """Join neighbours of one speaker, each clip once, as long as they stay within ``lengths``, taken in turn."""
    groups: list[list[GateClip]] = []
    for clip in sorted(clips, key=lambda clip: (clip.speaker, clip.id)):
        target = lengths[(len(groups) - 1) % len(lengths)]
        last = groups[-1] if groups else []
        fits = sum(part.seconds for part in last) + clip.seconds <= target
        if last and last[0].speaker == clip.speaker and fits:
            last.append(clip)
        else:
            groups.append([clip])
    return [_joined(group) for group in groups if len(group) > 1]


def halves(speakers: Iterable[str]) -> Mapping[str, str]:
    """Return speaker to ``choose`` or ``confirm``: every second one of a shuffled list that never changes."""
    order = sorted(set(speakers), key=lambda speaker: zlib.crc32(speaker.encode()))
    return {speaker: ("choose", "confirm")[place % 2] for place, speaker in enumerate(order)}


def strata(clips: Sequence[GateClip], condition: str) -> dict[str, set[str]]:
    """Return the ids of a condition's parts: all; slow and fast of clean ones; lengths of clean and long ones."""
    found = {"all": {clip.id for clip in clips}}
    if condition == "clean":
        middle = float(np.median([clip.words_per_second for clip in clips]))
        found["slow"] = {clip.id for clip in clips if clip.words_per_second < middle}
        found["fast"] = found["all"] - found["slow"]
    if condition != "noisy":
        for low, high in ((1, 5), (5, 10), (10, 30)):
            found[f"{low} to {high} s"] = {clip.id for clip in clips if low <= clip.seconds < high}
    return {name: ids for name, ids in found.items() if ids}


def _clip(row: Mapping[str, Any]) -> GateClip:
    return GateClip(row["id"], row["speaker"], row["text"], row["duration"], (AudioRef(**row["audio"]),))


def _joined(group: Sequence[GateClip]) -> GateClip:
    return GateClip(
        "+".join(clip.id for clip in group),
        group[0].speaker,
        " ".join(clip.text for clip in group),
        sum(clip.seconds for clip in group),
        tuple(part for clip in group for part in clip.audio),
    )


def later(samples: np.ndarray, seconds: float) -> np.ndarray:
    """Return (T,) samples behind some silence."""
    return np.concatenate([np.zeros(round(seconds * SAMPLE_RATE), dtype=samples.dtype), samples])
