"""hf-asr transcribe: files and folders in every format, where it writes, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from helpers.scripted_whisper import make_scripted_whisper
from helpers.tiny_corpus import tone

from hf_asr.cli import main
from hf_asr.data.audio import SAMPLE_RATE, encode

SRT = "1\n00:00:00,000 --> 00:00:01,000\nhi\n"
LONG_SRT = "\n".join([SRT, "2\n00:00:04,000 --> 00:00:05,000\nhi\n"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that says "hi" in the first second of each window of 4 s."""
    return make_scripted_whisper(tmp_path_factory.mktemp("model"), ("<|0.00|>", " hi", "<|1.00|>"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    (folder / "deep").mkdir()
    (folder / "short.wav").write_bytes(encode(tone(1, 2.0), SAMPLE_RATE, "wav"))
    (folder / "deep" / "long.flac").write_bytes(encode(tone(2, 5.5), SAMPLE_RATE, "flac"))
    return folder


def transcribe(model: Path, *words: str | Path) -> int:
    return main(["transcribe", "--model", str(model), "--language", "en", *map(str, words)])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "hi\n"),
        (["--timestamps"], "[00:00:00.000 --> 00:00:01.000] hi\n"),
        (["--format", "srt"], SRT),
        (["--format", "vtt"], "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nhi\n"),
        (["--format", "csv", "--timestamps"], "file,start,end,text,language\n{file},0.0,1.0,hi,en\n"),
    ],
)
def test_one_file_to_stdout(
    model: Path, clips: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    file = clips / "short.wav"
    assert transcribe(model, "--input", file, *words) == 0
    shown = capsys.readouterr()
    assert shown.out == expected.format(file=file)
    assert shown.err == ""


def test_a_folder_as_text_and_as_table(model: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(model, "--input", clips) == 0
    assert capsys.readouterr().out == "deep/long.flac\thi hi\nshort.wav\thi\n"
    assert transcribe(model, "--input", clips, "--format", "csv", "--batch-size", "1") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["file"], row["text"], row["duration"]) for row in rows] == [
        ("deep/long.flac", "hi hi", "5.5"),
        ("short.wav", "hi", "2.0"),
    ]


def test_json_is_told_by_the_outputs_name(model: Path, clips: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    output.write_text("an older file")
    assert transcribe(model, "--input", clips, "--output", output) == 0
    assert json.loads(output.read_text()) == [
        {
            "file": "deep/long.flac",
            "text": "hi hi",
            "duration": 5.5,
            "language": "en",
            "segments": [{"start": 0.0, "end": 1.0, "text": "hi"}, {"start": 4.0, "end": 5.0, "text": "hi"}],
        },
        {
            "file": "short.wav",
            "text": "hi",
            "duration": 2.0,
            "language": "en",
            "segments": [{"start": 0.0, "end": 2.0, "text": "hi"}],
        },
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_folder_gives_one_subtitle_file_each(model: Path, clips: Path, tmp_path: Path) -> None:
    assert transcribe(model, "--input", clips, "--format", "srt", "--output", tmp_path / "subtitles") == 0
    written = {path.name: path.read_text() for path in (tmp_path / "subtitles").rglob("*") if path.is_file()}
    assert written == {"short.srt": SRT, "long.srt": LONG_SRT}
    assert (tmp_path / "subtitles" / "deep" / "long.srt").is_file()


def test_broken_files_are_named_and_only_all_broken_is_a_failure(
    model: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp3").write_text("a text file with another name")
    (tmp_path / "b.wav").write_bytes((clips / "short.wav").read_bytes())
    assert transcribe(model, "--input", tmp_path) == 0
    shown = capsys.readouterr()
    assert shown.out == "b.wav\thi\n"
    assert "a.mp3" in shown.err
    assert "1 of 2 files were transcribed" in shown.err
    (tmp_path / "b.wav").unlink()
    assert transcribe(model, "--input", tmp_path, "--output", tmp_path / "out.txt") == 1
    assert "0 of 1 files were transcribed" in capsys.readouterr().err
    assert not (tmp_path / "out.txt").exists()


def test_it_says_when_times_are_those_of_windows(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", shared_data / "whisper", "--input", shared_data / "jfk.flac", "--format", "vtt"]
    assert main(["transcribe", *map(str, words)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:11.000\nAnd so, my fellow Americans")
    assert "bounds of windows" in shown.err
    assert "never trained" in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "{tmp}/missing.wav"], "--input: expected an audio file or a folder, found nothing at"),
        (["--input", "{tmp}"], "--input: expected a folder with audio"),
        (["--input", "{tmp}/notes.docx"], "found {tmp}/notes.docx; convert it"),
        (["--input", "{clip}", "--output", "{tmp}/out.doc"], "--output: expected a suffix out of txt, json"),
        (["--input", "{clip}", "--output", "{tmp}"], "--output: expected a file to write, found the folder"),
        (["--input", "{clips}", "--format", "srt"], "expected a folder, found none"),
        (["--input", "{clips}", "--format", "vtt", "--output", "{tmp}/notes.docx"], "folder, found the file"),
        (["--input", "{clip}", "--batch-size", "0"], "--batch-size: expected 1 or more, found 0"),
        (["--input", "{clip}", "--language", "klingon"], "--language: expected a BCP-47 tag"),
        (["--input", "{clip}", "--model", "{tmp}/nothing"], "--model: expected"),
    ],
)
def test_what_cannot_be_done_is_one_message(
    model: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (tmp_path / "notes.docx").write_text("x")
    places = {"tmp": tmp_path, "clips": clips, "clip": clips / "short.wav"}
    assert transcribe(model, *(word.format(**places) for word in words)) == 2
    shown = capsys.readouterr()
    assert message.format(**places) in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
