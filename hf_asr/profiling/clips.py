"""Clips of given lengths: neighbours of a corpus joined up to the length, drawn once with a seed and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, encode, load
from hf_asr.errors import UserError
from hf_asr.files import write_whole
from hf_asr.profiling.synthetic import noise
from hf_asr.utterance import AudioRef, Seconds, Utterance

# Silence between two neighbours that are joined.
GAP: Seconds = 0.3
# A clip counts as one of its length when at least this share of it is the corpus's audio; silence fills the rest.
FILLED = 0.7
# What every row decodes: FLAC, from memory.
FORMAT = "flac"


@dataclass(frozen=True, slots=True)
class ProfileClip:
    """A clip of a cell.

    Attributes:
        id: Ids of the utterances in it, joined by ``+``.
        path: Its FLAC; empty when it was made of noise.
        data: Its encoded bytes.
        text: What is said; empty in noise.
        speaker: Who speaks, where all of it is one speaker.
        speech: Seconds of the corpus's audio in it; the rest is silence.
    """

    id: str
    path: str
    data: bytes
    text: str = ""
    speaker: str = ""
    speech: Seconds = 0.0

    def samples(self) -> np.ndarray:
        """Decode it: float32 (T,) at 16 kHz."""
        return load(AudioRef(data=self.data, path=self.id))


def noise_clips(duration: Seconds, number: int, seed: int) -> list[ProfileClip]:
    """Make clips of shaped noise."""
    return [
        ProfileClip(f"noise{place}", "", encode(noise(duration, seed + place), SAMPLE_RATE, FORMAT))
        for place in range(number)
    ]


def speech_clips(
    rows: Sequence[Mapping[str, Any]], duration: Seconds, number: int, seed: int, folder: Path
) -> list[ProfileClip]:
    """Join neighbours of a corpus to clips of a length; an earlier call's are read from ``folder``.

    Args:
        rows: A split's rows, undecoded, in the corpus's order.
        duration: Length of each clip, silence filling what the utterances leave.
        number: Clips wanted at most.
        seed: Decides where in the corpus each one begins.
        folder: Where they are kept.

    Raises:
        UserError: The corpus has not one clip of that length.
    """
    wanted = {"duration": duration, "number": number, "seed": seed, "rows": _fingerprint(rows)}
    index = folder / f"{duration:g}s" / "index.json"
    if index.is_file():
        found = json.loads(index.read_text(encoding="utf-8"))
        if found["wanted"] == wanted:
            return [_read(index.parent, clip) for clip in found["clips"]]
    clips = [_write(index.parent, place, clip) for place, clip in enumerate(_joined(rows, duration, number, seed))]
    if not clips:
        raise UserError(
            f"--durations {duration:g}: expected neighbours in the corpus that fill {FILLED:.0%} of {duration:g} s, "
            f"found none among {len(rows)} clips. Choose shorter durations, or a split with more or longer clips."
        )
    described = [{"place": place, **_described(clip)} for place, clip in enumerate(clips)]
    write_whole(index, json.dumps({"wanted": wanted, "clips": described}, ensure_ascii=False, indent=1) + "\n")
    return clips


def plan(lengths: Sequence[Seconds], duration: Seconds, number: int, seed: int) -> list[list[int]]:
    """Choose which neighbours make up each clip; no utterance is taken twice.

    Args:
        lengths: Seconds of each utterance.
        duration: Seconds of a clip.
        number: Clips wanted at most.
        seed: Decides the order in which places are tried.
    """
    taken: set[int] = set()
    chosen: list[list[int]] = []
    for start in np.random.default_rng(seed).permutation(len(lengths)):
        group, filled = list[int](), 0.0
        for place in range(int(start), len(lengths)):
            more = lengths[place] + (GAP if group else 0.0)
            if place in taken or filled + more > duration + 1e-3:
                break
            group.append(place)
            filled += more
        if group and filled >= FILLED * duration:
            taken.update(group)
            chosen.append(group)
        if len(chosen) == number:
            break
    return chosen


def _joined(rows: Sequence[Mapping[str, Any]], duration: Seconds, number: int, seed: int) -> Iterator[ProfileClip]:
    lengths = [float(row["duration"] or np.inf) for row in rows]
    for group in plan(lengths, duration, number, seed):
        parts = [Utterance.from_row(rows[place]) for place in group]
        try:
            samples = [load(part.audio) for part in parts]
        except BrokenAudio:
            continue  # hf-asr evaluate counts and names them; here another place takes its turn
        gap = np.zeros(round(GAP * SAMPLE_RATE), dtype=np.float32)
        joined = np.concatenate([piece for sound in samples for piece in (gap, sound)][1:])
        size = round(duration * SAMPLE_RATE)
        whole = np.zeros(size, dtype=np.float32)
        whole[: min(size, len(joined))] = joined[:size]
        speakers = {part.speaker for part in parts}
        yield ProfileClip(
            id="+".join(part.id for part in parts),
            path="",
            data=encode(whole, SAMPLE_RATE, FORMAT),
            text=" ".join(part.text for part in parts),
            speaker=speakers.pop() if len(speakers) == 1 else "",
            speech=sum(map(len, samples)) / SAMPLE_RATE,
        )


def _write(folder: Path, place: int, clip: ProfileClip) -> ProfileClip:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{place:03}.{FORMAT}"
    path.write_bytes(clip.data)
    return ProfileClip(clip.id, str(path), clip.data, clip.text, clip.speaker, clip.speech)


def _described(clip: ProfileClip) -> dict[str, Any]:
    return {name: value for name, value in asdict(clip).items() if name not in ("data", "path")}


def _read(folder: Path, described: Mapping[str, Any]) -> ProfileClip:
    path = folder / f"{described['place']:03}.{FORMAT}"
    values = {name: value for name, value in described.items() if name != "place"}
    return ProfileClip(path=str(path), data=path.read_bytes(), **values)


def _fingerprint(rows: Sequence[Mapping[str, Any]]) -> str:
    told = json.dumps([[row["id"], row["text"], row["duration"]] for row in rows], ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:16]
