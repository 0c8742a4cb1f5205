"""Whole recordings behind a split's rows: rows that name parts of one file are joined in the order they are spoken.

A row without ``start`` and ``end`` is a recording of its own, its text unsplit. Rows with them (GigaSpeech, a manifest
with ``start,end`` or ``offset,duration``) give each stretch of text its known times as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from hf_asr.data.audio import BrokenAudio, duration_of
from hf_asr.errors import UserError
from hf_asr.text import cer_first
from hf_asr.utterance import AudioRef, Drops, Seconds, Utterance

# Below this a window holds a recording whole, and nothing about long form can be seen.
SHORTEST: Seconds = 30.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording whose text and times are known."""

    start: Seconds
    end: Seconds
    text: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole file with what is said in it.

    Attributes:
        id: The file's name, or GigaSpeech's ``aid``; unique.
        audio: The whole file.
        text: All that is said, in order.
        duration: Its length in seconds.
        speaker: Its speaker where all parts have the same one, else empty.
        stretches: Its parts with their times, in order; empty where the corpus does not tell them.
    """

    id: str
    audio: AudioRef
    text: str
    duration: Seconds
    speaker: str
    stretches: tuple[Stretch, ...]

    def uncovered(self) -> Seconds:
        """Return the seconds that no stretch covers: what is said there counts as inserted; 0 without stretches."""
        if not self.stretches:
            return 0.0
        covered, reached = 0.0, 0.0
        for part in self.stretches:
            covered += max(0.0, part.end - max(part.start, reached))
            reached = max(reached, part.end)
        return max(0.0, self.duration - covered)


def recordings_of(rows: Iterable[Utterance], drops: Drops, language: str | None) -> list[Recording]:
    """Join rows to recordings, in the order in which their first rows stand.

    Args:
        rows: Rows of a split, none left out for its length: a part that is missing would count as inserted words.
        drops: Takes recordings whose file cannot be read.
        language: Decides whether texts are joined with spaces.

    Raises:
        UserError: A file has a row for the whole of it and others besides.
    """
    groups: dict[tuple[str, int, str], list[Utterance]] = {}
    for row in rows:
        place = (row.audio.path, row.audio.offset, row.id if row.audio.data is not None else "")
        groups.setdefault(place, []).append(row)
    names = _names([group[0] for group in groups.values()])
    found = []
    for name, group in zip(names, groups.values(), strict=True):
        try:
            found.append(_recording(name, group, language))
        except BrokenAudio as error:
            drops.add("broken_audio", name, str(error))
    return found


def check_long(recordings: Sequence[Recording], place: str) -> None:
    """See that there is something long among them.

    Raises:
        UserError: All are shorter than :data:`SHORTEST`.
    """
    longest = max((recording.duration for recording in recordings), default=0.0)
    if longest < SHORTEST:
        raise UserError(
            f"{place}: expected recordings longer than {SHORTEST:g} s, found {len(recordings)}, the longest of "
            f"{longest:.1f} s. Leave it out: such clips fit into one window."
        )


def _recording(name: str, group: Sequence[Utterance], language: str | None) -> Recording:
    parts = sorted(group, key=lambda row: (row.audio.start, row.audio.end or 0.0))
    whole = [row for row in parts if not row.audio.start and row.audio.end is None]
    if whole and len(parts) > 1:
        raise UserError(
            f"{name}: expected either one row for the whole file or rows with start and end, found {len(whole)} for "
            f"the whole of it among {len(parts)}. Remove the others."
        )
    audio = replace(parts[0].audio, start=0.0, end=None)
    duration = duration_of(audio)
    stretches = () if whole else tuple(Stretch(row.audio.start, row.audio.end or duration, row.text) for row in parts)
    joiner = "" if cer_first(language or parts[0].language) else " "
    speakers = {row.speaker for row in parts}
    text = joiner.join(row.text for row in parts if row.text)
    return Recording(name, audio, text, duration, speakers.pop() if len(speakers) == 1 else "", stretches)


def _names(rows: Sequence[Utterance]) -> list[str]:
    """Return short names, the whole path where two files have the same."""
    short = [row.extra.get("aid") or (PurePath(row.audio.path).stem if row.audio.path else row.id) for row in rows]
    return [
        name if short.count(name) == 1 else (row.audio.path or row.id) for name, row in zip(short, rows, strict=True)
    ]
