"""Transcripts as txt, json, csv, srt and vtt text: pure functions, no model and no audio."""

from __future__ import annotations

import csv
import html
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_asr.utterance import Seconds


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a file and what was said in it.

    Attributes:
        start: Beginning in the file, in seconds.
        end: End in the file, in seconds, never before ``start``.
        text: What the model wrote for it.
    """

    start: Seconds
    end: Seconds
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a model wrote for one file.

    Attributes:
        file: Path as the user knows it: as given, or relative to the folder that was given.
        text: The whole text.
        duration: Length of the file in seconds.
        language: Language code the file was decoded under; empty when the model has no languages.
        segments: Parts of the text in order, each with its times.
    """

    file: str
    text: str
    duration: Seconds
    language: str
    segments: tuple[Segment, ...]


def clock(seconds: Seconds, separator: str = ".") -> str:
    """Write a time as ``HH:MM:SS.mmm``; SubRip wants ``,`` before the milliseconds.

    Raises:
        ValueError: ``seconds`` is negative or no number.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"a time in a file is 0 or more seconds; this one is {seconds}")
    # Rounded once, to whole milliseconds: rounding the seconds alone would write 59.9996 as 60.000.
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{separator}{milliseconds % 1000:03d}"


def one_line(text: str) -> str:
    """Join the text's words by single spaces: no line break can end a line or a cue early."""
    return " ".join(text.split())


def to_txt(transcripts: Sequence[Transcript], timestamps: bool, named: bool) -> str:
    """Write one line a file, or with ``timestamps`` one line a segment, opened by its times.

    Args:
        transcripts: What to write, in order.
        timestamps: Whether lines are segments instead of files.
        named: Whether each line opens with the file's path and a tab (a folder was given).
    """
    lines = []
    for transcript in transcripts:
        name = f"{one_line(transcript.file)}\t" if named else ""
        texts = [_timed_line(segment) for segment in transcript.segments] if timestamps else [one_line(transcript.text)]
        lines += [f"{name}{text}\n" for text in texts]
    return "".join(lines)


def to_json(transcripts: Sequence[Transcript], timestamps: bool, named: bool) -> str:
    """Write a list of ``{file, text, duration, language, segments: [{start, end, text}]}``."""
    return json.dumps([asdict(transcript) for transcript in transcripts], ensure_ascii=False, indent=2) + "\n"


def to_csv(transcripts: Sequence[Transcript], timestamps: bool, named: bool) -> str:
    """Write columns file, text, duration, language; with ``timestamps`` file, start, end, text, language."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    if timestamps:
        writer.writerow(["file", "start", "end", "text", "language"])
        for item in transcripts:
            writer.writerows([item.file, part.start, part.end, part.text, item.language] for part in item.segments)
    else:
        writer.writerow(["file", "text", "duration", "language"])
        writer.writerows([item.file, item.text, item.duration, item.language] for item in transcripts)
    return table.getvalue()


def to_srt(transcripts: Sequence[Transcript], timestamps: bool, named: bool) -> str:
    """Write SubRip cues of one file; segments without text get no cue.

    SubRip has no escapes, so an arrow inside a text, which readers take for a time line, loses one dash.
    """
    cues = [
        f"{number}\n{clock(part.start, ',')} --> {clock(part.end, ',')}\n{one_line(part.text).replace('-->', '->')}\n"
        for number, part in enumerate(_spoken(transcripts), start=1)
    ]
    return "\n".join(cues)


def to_vtt(transcripts: Sequence[Transcript], timestamps: bool, named: bool) -> str:
    """Write WebVTT cues of one file, with ``&``, ``<`` and ``>`` escaped (W3C WebVTT, cue text)."""
    cues = [
        f"{clock(part.start)} --> {clock(part.end)}\n{html.escape(one_line(part.text), quote=False)}\n"
        for part in _spoken(transcripts)
    ]
    return "\n".join(["WEBVTT\n", *cues])


Writer = Callable[[Sequence[Transcript], bool, bool], str]
FORMATS: dict[str, Writer] = {"txt": to_txt, "json": to_json, "csv": to_csv, "srt": to_srt, "vtt": to_vtt}

# One such file describes one recording, and is made of segments whether or not --timestamps is given.
SUBTITLES = ("srt", "vtt")


def subtitle_names(files: Sequence[str], suffix: str) -> list[Path]:
    """Name one subtitle file per recording: its relative path with another suffix.

    Where recordings differ in their suffix alone (``a.wav``, ``a.mp3``), all keep it: ``a.wav.srt``, ``a.mp3.srt``.

    Args:
        files: Relative paths of the recordings, all different.
        suffix: Format's name, without a dot.
    """
    short = [Path(file).with_suffix(f".{suffix}") for file in files]
    return short if len(set(short)) == len(short) else [Path(f"{file}.{suffix}") for file in files]


def _timed_line(segment: Segment) -> str:
    return f"[{clock(segment.start)} --> {clock(segment.end)}] {one_line(segment.text)}"


def _spoken(transcripts: Sequence[Transcript]) -> list[Segment]:
    assert len(transcripts) == 1, "a subtitle file describes one recording"
    return [segment for segment in transcripts[0].segments if one_line(segment.text)]
