"""The transcript formats: times, escaping, and that each can be read back."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.inference.formats import (
    FORMATS,
    Segment,
    Transcript,
    clock,
    one_line,
    subtitle_names,
    to_csv,
    to_json,
    to_srt,
    to_txt,
    to_vtt,
)

SECONDS = st.floats(0, 400_000, allow_nan=False)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40)
HELLO = Transcript("a.wav", "hello there", 2.5, "en", (Segment(0.0, 1.0, "hello"), Segment(1.0, 2.5, "there")))


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    times = sorted(draw(st.lists(SECONDS, min_size=2, max_size=8)))
    parts = tuple(Segment(start, end, draw(TEXTS)) for start, end in pairwise(times))
    return Transcript(draw(TEXTS), draw(TEXTS), times[-1], "ru", parts)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "00:00:00.000"),
        (1.5, "00:00:01.500"),
        (59.9994, "00:00:59.999"),
        (59.9996, "00:01:00.000"),
        (3599.9999, "01:00:00.000"),
        (3661.007, "01:01:01.007"),
        (360_000, "100:00:00.000"),
    ],
)
def test_clock_rounds_once(seconds: float, written: str) -> None:
    assert clock(seconds) == written
    assert clock(seconds, ",") == written.replace(".", ",")


@pytest.mark.parametrize("seconds", [-0.001, float("nan"), float("inf")])
def test_clock_refuses_what_is_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="0 or more seconds"):
        clock(seconds)


@given(SECONDS)
def test_clock_reads_back_within_half_a_millisecond(seconds: float) -> None:
    match = re.fullmatch(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})", clock(seconds))
    assert match
    hours, minutes, whole, thousandths = map(int, match.groups())
    assert hours * 3600 + minutes * 60 + whole + thousandths / 1000 == pytest.approx(seconds, abs=0.000501)


@given(SECONDS, SECONDS)
def test_clock_keeps_the_order_of_times(first: float, second: float) -> None:
    earlier, later = ([int(part) for part in re.split(r"[:.]", clock(time))] for time in sorted((first, second)))
    assert earlier <= later


@given(TEXTS)
def test_one_line_is_one_line_with_the_same_words(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
    assert one_line(text).split() == text.split()


@given(st.lists(transcripts(), max_size=4))
def test_json_reads_back(items: list[Transcript]) -> None:
    read = json.loads(to_json(items, False, True))
    assert read == [asdict(item) | {"segments": [asdict(part) for part in item.segments]} for item in items]


def test_json_has_the_documented_keys_and_keeps_letters() -> None:
    text = to_json([Transcript("я.mp3", "ёж", 1.0, "ru", (Segment(0.0, 1.0, "ёж"),))], False, False)
    assert json.loads(text) == [
        {
            "file": "я.mp3",
            "text": "ёж",
            "duration": 1.0,
            "language": "ru",
            "segments": [{"start": 0.0, "end": 1.0, "text": "ёж"}],
        }
    ]
    assert "ёж" in text


@given(st.lists(transcripts(), max_size=4))
def test_csv_reads_back(items: list[Transcript]) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(items, False, True), newline="")))
    assert [(row["file"], row["text"], float(row["duration"])) for row in rows] == [
        (item.file, item.text, item.duration) for item in items
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(items, True, True), newline="")))
    parts = [part for item in items for part in item.segments]
    assert [Segment(float(row["start"]), float(row["end"]), row["text"]) for row in rows] == parts


@given(st.lists(transcripts(), max_size=4))
def test_txt_has_one_line_a_file_or_a_segment(items: list[Transcript]) -> None:
    lines = to_txt(items, False, False).split("\n")[:-1]
    assert [line.split() for line in lines] == [item.text.split() for item in items]
    assert to_txt(items, True, True).count("\n") == sum(len(item.segments) for item in items)


@pytest.mark.parametrize(
    ("timestamps", "named", "written"),
    [
        (False, False, "hello there\n"),
        (False, True, "a.wav\thello there\n"),
        (True, False, "[00:00:00.000 --> 00:00:01.000] hello\n[00:00:01.000 --> 00:00:02.500] there\n"),
        (
            True,
            True,
            "a.wav\t[00:00:00.000 --> 00:00:01.000] hello\na.wav\t[00:00:01.000 --> 00:00:02.500] there\n",
        ),
    ],
)
def test_txt_literals(timestamps: bool, named: bool, written: str) -> None:
    assert to_txt([HELLO], timestamps, named) == written


def test_srt_literal() -> None:
    assert to_srt([HELLO], True, False) == (
        "1\n00:00:00,000 --> 00:00:01,000\nhello\n\n2\n00:00:01,000 --> 00:00:02,500\nthere\n"
    )


def test_vtt_literal_is_escaped() -> None:
    talk = Transcript("a.wav", "", 2.0, "en", (Segment(0.0, 1.0, "AT&T <b> --> x"), Segment(1.0, 2.0, " ")))
    assert to_vtt([talk], True, False) == ("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nAT&amp;T &lt;b&gt; --&gt; x\n")


@given(transcripts())
def test_srt_cues_read_back(item: Transcript) -> None:
    spoken = [part for part in item.segments if part.text.split()]
    cues = [cue.split("\n") for cue in to_srt([item], True, False).rstrip("\n").split("\n\n")] if spoken else []
    assert [cue[0] for cue in cues] == [str(number + 1) for number in range(len(spoken))]
    assert [cue[1] for cue in cues] == [f"{clock(p.start, ',')} --> {clock(p.end, ',')}" for p in spoken]
    assert [" ".join(cue[2:]) for cue in cues] == [one_line(part.text).replace("-->", "->") for part in spoken]


@given(transcripts())
def test_vtt_cues_read_back(item: Transcript) -> None:
    spoken = [part for part in item.segments if part.text.split()]
    head, *cues = to_vtt([item], True, False).rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    assert all(cue.count("-->") == 1 for cue in cues)
    assert [html.unescape(cue.split("\n", 1)[1]) for cue in cues] == [one_line(part.text) for part in spoken]


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_a_silent_recording_gives_an_empty_subtitle_file(name: str) -> None:
    silent = Transcript("a.wav", "", 1.0, "en", (Segment(0.0, 1.0, ""),))
    assert FORMATS[name]([silent], True, False) == ("" if name == "srt" else "WEBVTT\n")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.wav", "b/a.wav"], ["a.srt", "b/a.srt"]),
        (["a.wav", "a.mp3", "c.ogg"], ["a.wav.srt", "a.mp3.srt", "c.ogg.srt"]),
        (["a.wav", "a.mp3", "a.mp3.wav"], ["a.wav.srt", "a.mp3.srt", "a.mp3.wav.srt"]),
        (["talk.1.wav", "talk.2.wav"], ["talk.1.srt", "talk.2.srt"]),
    ],
)
def test_subtitle_names(files: list[str], names: list[str]) -> None:
    assert subtitle_names(files, "srt") == [Path(name) for name in names]


@given(st.lists(st.from_regex(r"[ab]{1,2}(\.mp3)?\.(wav|mp3|ogg)", fullmatch=True), unique=True))
def test_subtitle_names_never_collide(files: list[str]) -> None:
    assert len(set(subtitle_names(files, "vtt"))) == len(files)
