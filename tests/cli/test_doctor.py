"""hf-asr doctor: a healthy run is called healthy, and every fault of a run is found and named before it is started."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_shards import make_tars
from helpers.tiny_whisper import make_tiny_whisper
from rich.console import Console, ConsoleDimensions

from hf_asr.cli import doctor, machine, preflight, preflight_sample
from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.checks import Check
from hf_asr.errors import UserError
from hf_asr.models import FAMILIES

Row = dict[str, Any]


def parse(*words: str) -> argparse.Namespace:
    """Parse the words as the command line does."""
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return parser.parse_intermixed_args(words)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper with 128 decoder positions."""
    return make_tiny_whisper(tmp_path_factory.mktemp("model"))


def healthy_rows() -> list[Row]:
    """Return the rows of a corpus without a fault: 12 clips of 2 s, speakers and sentences apart between splits."""
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    splits = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    return [
        {"path": f"{i}.wav", "text": f"the number is {word}", "speaker": f"{split}{i % 2}", "split": split}
        for i, (word, split) in enumerate(zip(words, splits, strict=True))
    ]


@pytest.fixture
def check(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """A function that writes rows as a corpus, runs doctor on it and returns the exit code and what it printed."""
    monkeypatch.setattr("rich.console.Console.size", ConsoleDimensions(200, 50))

    def run_doctor(rows: list[Row], *overrides: str) -> tuple[int, str]:
        rng = np.random.default_rng(0)
        for row in rows:
            clip = tmp_path / row["path"]
            noise = (0.1 * rng.standard_normal(2 * SAMPLE_RATE)).astype(np.float32)
            clip.write_bytes(row.pop("bytes", None) or encode(noise, SAMPLE_RATE, clip.suffix[1:]))
        (tmp_path / "corpus.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        config = {
            "experiment": {"name": "tiny", "output_dir": str(tmp_path)},
            "model": {"name_or_path": str(model)},
            "data": {"corpus": "manifest", "path": str(tmp_path / "corpus.jsonl"), "language": "en", "max_seconds": 4},
            "training": {"use_cpu": True},
        }
        (tmp_path / "run.yaml").write_text(json.dumps(config))
        code = doctor.run(parse("--config", str(tmp_path / "run.yaml"), "data.columns.split=split", *overrides))
        return code, capsys.readouterr().out

    return run_doctor


def test_a_healthy_run_is_called_healthy(check: Callable[..., tuple[int, str]]) -> None:
    code, printed = check(healthy_rows())
    assert code == 0, printed
    assert "findings" not in printed
    assert printed.rstrip().endswith("healthy")
    assert "12 looked at, of 12" in printed
    assert "12 of 12 decoded" in printed


def truncated_mp3() -> bytes:
    """Return the first third of an MP3."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE)).astype(np.float32)
    whole = encode(noise, SAMPLE_RATE, "mp3")
    return whole[: len(whole) // 3]


FAULTS: dict[str, tuple[Row, tuple[str, ...], str]] = {
    "text too long for its clip": ({0: {"text": "word " * 20}}, (), "train: 0.wav (50/s: 'word word"),
    "label too long": ({1: {"text": "ж" * 70}}, (), "too long: train: 1.wav (14"),
    "empty text in train": ({2: {"text": "  "}}, (), "empty_text: 1 left out: 2.wav"),
    "empty text in test": ({10: {"text": ""}}, (), "found: 1 of 12: test: 10.wav"),
    "truncated mp3": ({3: {"path": "3.mp3", "bytes": truncated_mp3()}}, (), "3.mp3"),
    "a text file named .wav": ({4: {"bytes": b"no sound"}}, (), "broken_audio: 1 left out: 4.wav"),
    "another language": ({}, ("data.language=ru",), "expected Cyrillic letters"),
    "a sentence in train and test": (
        {10: {"text": "the number is ZERO"}},
        (),
        "test: 1 of its 2 clips have a sentence",
    ),
    "a speaker in train and test": ({10: {"speaker": "train0"}}, (), "test: 1 of its 2 clips have a speaker"),
    "test is train": ({}, ("data.splits.test=train",), "test: it is the same 8 clips as train"),
    "float16 on a CPU": ({}, ("training.fp16=true",), "expected a device that trains in float16"),
    "no such corpus": ({}, ("data.path=nowhere/at/all.csv",), "data: expected splits that can be read"),
    "no such model": ({}, ("model.name_or_path=./nowhere",), "model: expected a model that can be trained"),
    "too many workers": ({}, ("data.num_workers=999",), "999 loader worker(s)"),
}


@pytest.mark.parametrize(("changes", "overrides", "told"), FAULTS.values(), ids=FAULTS)
def test_every_fault_is_a_finding(
    check: Callable[..., tuple[int, str]], changes: dict[int, Row], overrides: tuple[str, ...], told: str
) -> None:
    rows = healthy_rows()
    for index, change in changes.items():
        rows[index] |= change
    code, printed = check(rows, *overrides)
    assert code == 1, printed
    assert told in printed
    assert "\n  do: " in printed


def test_a_model_that_is_missing_does_not_hide_what_is_wrong_with_the_corpus(
    check: Callable[..., tuple[int, str]],
) -> None:
    _, printed = check(healthy_rows(), "model.name_or_path=./nowhere", "data.language=ru")
    assert "expected a model that can be trained" in printed
    assert "expected Cyrillic letters" in printed
    assert "label lengths" not in printed


def test_a_language_without_a_token_is_told_and_no_fault(check: Callable[..., tuple[int, str]]) -> None:
    code, printed = check(healthy_rows(), "data.language=cy")
    assert code == 0, printed
    assert "no token for the language cy" in printed


def test_a_stream_is_looked_at_from_its_beginning(check: Callable[..., tuple[int, str]]) -> None:
    code, printed = check(healthy_rows(), "data.streaming=true", "training.max_steps=2")
    assert code == 0, printed
    assert "and the beginning of the stream" in printed
    assert "none between validation, test" in printed


def test_shards_are_counted_against_processes(
    check: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tars(tmp_path / "tars", 3, 4)
    train = f"data.splits.train={{corpus: webdataset, path: {tmp_path / 'tars'}}}"
    words = (train, "data.streaming=true", "training.max_steps=2", "data.num_workers=2")
    _, printed = check(healthy_rows(), *words)
    assert "3 shards for 1 process x 2 workers, 3 a process" in " ".join(printed.split())
    monkeypatch.setenv("WORLD_SIZE", "4")
    code, printed = check(healthy_rows(), *words)
    assert code == 1 and "stream: expected a shard a process" in printed and "Use at most 3 processes" in printed


def test_samples_are_told_as_such(check: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_sample, "MAX_TEXTS", 3)
    monkeypatch.setattr(preflight_sample, "MAX_DECODED", 6)
    _, printed = check(healthy_rows())
    assert "7 looked at, of 12" in printed
    assert "6 of 12 decoded" in printed


def also(**sets: Any) -> str:
    """Return the override that asks for other sets."""
    return f"evaluation.also={json.dumps(sets)}"


def test_other_sets_are_read_and_forecast(check: Callable[..., tuple[int, str]]) -> None:
    sets = also(silence="builtin", again={"splits": {"test": "validation"}, "limit": 1, "language": "cy"})
    code, printed = check(healthy_rows(), sets)
    assert code == 0, printed
    assert "evaluation.also.silence" in printed and "24 clips" in printed
    assert "evaluation.also.again: audio" in printed and "1 of 1 decoded" in printed
    assert "2 sets, 25 clips, 0.07 h to decode twice, before the training and after it" in printed
    assert "disk for the features of evaluation.also" in printed
    assert "no token for the language cy" in printed


OTHER_FAULTS = {
    "nowhere": ({"corpus": "manifest", "path": "nowhere/at/all.csv"}, "evaluation.also.other: expected a set that can"),
    "no such split": ({"splits": {"test": "broadcast"}}, "evaluation.also.other: expected a set that can be read"),
    "another language": ({"language": "ru"}, "evaluation.also.other: language against text: expected Cyrillic letters"),
    "no words": ({"language": "en", "normalizer": "basic", "limit": 1}, "evaluation.also.other: expected references"),
}


@pytest.mark.parametrize(("other", "told"), OTHER_FAULTS.values(), ids=OTHER_FAULTS)
def test_what_is_wrong_with_another_set_is_a_finding(
    check: Callable[..., tuple[int, str]], other: dict[str, Any], told: str
) -> None:
    rows = healthy_rows()
    rows[10]["text"] = "?!" if "limit" in other else rows[10]["text"]
    code, printed = check(rows, also(other=other, silence="builtin"))
    assert code == 1, printed
    assert told in printed
    assert "evaluation.also.silence" in printed


def test_a_configuration_that_is_wrong_is_not_looked_at_further(check: Callable[..., tuple[int, str]]) -> None:
    with pytest.raises(UserError, match="streeming"):
        check(healthy_rows(), "data.streeming=true")


def test_key_value_needs_a_yaml() -> None:
    with pytest.raises(UserError, match=r"--config.*data\.path=x"):
        doctor.run(parse("data.path=x"))


def test_without_a_configuration_the_machine_alone_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "check_machine", lambda folder: [Check("disk", True, "much")])
    assert doctor.run(parse()) == 0


def test_findings_are_printed_in_full_whatever_the_width_and_brackets_are_no_markup() -> None:
    out = io.StringIO()
    found = "clip [red]a[/red] " + "x" * 300 + "; and more"
    checks = [Check("disk", True, "much"), Check("audio", False, found, "whole clips", "Fetch them.")]
    assert doctor.report(checks, Console(file=out, width=40)) == 1
    assert f"audio: expected whole clips\n  found: {found}\n  do: Fetch them.\nfindings: 1\n" in out.getvalue()


def test_parameters_are_counted_without_making_weights(model: Path) -> None:
    from transformers import AutoModelForSpeechSeq2Seq, WhisperConfig

    made = AutoModelForSpeechSeq2Seq.from_pretrained(model)
    assert preflight.num_parameters(FAMILIES["whisper"], WhisperConfig.from_pretrained(model)) == made.num_parameters()
