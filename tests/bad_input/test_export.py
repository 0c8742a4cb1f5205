"""Exports that cannot be: one message that says what to do, before anything is loaded or written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_classifier import tiny_classifier
from helpers.tiny_moonshine import make_tiny_moonshine
from helpers.tiny_release import Release

# Options behind --model and --output-dir, and words of the one message.
REFUSED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no such numbers": (["--format", "onnx", "--quantization", "int8"], ("--quantization", "float32", "found int8")),
    "misspelt numbers": (["--format", "ctranslate2", "--quantization", "int9"], ("int8_float16", "found int9")),
    "overrides alone": (["--format", "merged", "data.limit.test=3"], ("only with --verify", "data.limit.test=3")),
    "another model": (["--format", "merged", "--verify", "a.yaml", "model.dtype=float16"], ("--base", "model.dtype")),
    "margin below 0": (["--format", "merged", "--margin", "-1"], ("--margin", "found -1")),
    "a base of nothing": (["--format", "merged", "--base", "x"], ("--base", "whole checkpoint")),
    "no configuration": (["--format", "merged", "--verify", "nothing.yaml"], ("nothing.yaml",)),
}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    tiny_classifier().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", REFUSED)
def test_options(case: str, attack: Attack, model: Path, tmp_path: Path) -> None:
    words, said = REFUSED[case]
    found = attack.verb("export", "--model", model, "--output-dir", tmp_path / "out", *words)
    found.assert_refused(*said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["nothing", "empty", "file"])
def test_no_model(place: str, attack: Attack, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    found = attack.verb("export", "--model", tmp_path / place, "--output-dir", tmp_path / "out", "--format", "merged")
    found.assert_refused("--model", "adapter_config.json", place)


def test_an_occupied_folder(attack: Attack, model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("x")
    found = attack.verb("export", "--model", model, "--output-dir", tmp_path, "--format", "merged")
    found.assert_refused("--output-dir", "model.bin")


def test_a_file_in_the_place_of_the_folder(attack: Attack, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    found = attack.verb("export", "--model", model, "--output-dir", tmp_path / "out", "--format", "merged")
    found.assert_refused("--output-dir", "out")


def test_a_classifier_to_ctranslate2(attack: Attack, classifier: Path, tmp_path: Path) -> None:
    words = ["--model", classifier, "--output-dir", tmp_path / "out", "--format"]
    attack.verb("export", *words, "ctranslate2").assert_refused("ctranslate2", "Whisper", "classifier", "merged")
    attack.verb("export", *words, "onnx").assert_refused("onnx", "ctc", "classifier", "merged")


def test_the_wer_of_a_classifier(attack: Attack, classifier: Path, release: Release, tmp_path: Path) -> None:
    words = ["--model", classifier, "--output-dir", tmp_path / "out", "--format", "merged"]
    found = attack.verb("export", *words, "--verify", release.yaml)
    found.assert_refused("--verify", "classes", "hf-asr evaluate")


def test_a_family_without_a_graph(attack: Attack, tmp_path: Path) -> None:
    model = make_tiny_moonshine(tmp_path / "model")
    for format in ("onnx", "ctranslate2"):
        found = attack.verb("export", "--model", model, "--output-dir", tmp_path / "out", "--format", format)
        found.assert_refused(format, "moonshine", "--format merged")


@pytest.mark.parametrize(("format", "package"), [("ctranslate2", "ctranslate2"), ("onnx", "onnxruntime")])
def test_a_missing_extra(
    attack: Attack, model: Path, tmp_path: Path, format: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    found = attack.verb("export", "--model", model, "--output-dir", tmp_path / "out", "--format", format)
    found.assert_refused(package, "pip install 'hf_asr[export]'")


def test_an_adapter_without_a_base(attack: Attack, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    words = ["--model", tmp_path / "adapter", "--output-dir", tmp_path / "out", "--format", "merged"]
    attack.verb("export", *words).assert_refused("--base", "none named")


def test_decoding_that_the_runtime_has_not(attack: Attack, model: Path, release: Release, tmp_path: Path) -> None:
    words = ["--model", model, "--output-dir", tmp_path / "out", "--verify", release.yaml]
    asked = "evaluation.generation.temperature=0.5"
    found = attack.verb("export", *words, asked, "--format", "onnx")
    found.assert_refused("evaluation.generation", "temperature=0.5", "ONNX")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("data.path=nowhere", ("data.path nowhere", "nothing there")),
        ("data.splits.test=nosuch", ("no nosuch.tsv",)),
        ("data.language=null", ("data.language", "found none")),
        ("evaluation.slices=[mood]", ("evaluation.slices", "mood")),
        ("evaluation.generation.length_penalty=much", ("length_penalty",)),
        ("evaluation.batch_seconds=1", ("evaluation.batch_seconds: expected at least the longest clip", "found 1")),
    ],
)
def test_what_cannot_be_verified_on_is_told_before_anything_is_written(
    attack: Attack, model: Path, release: Release, tmp_path: Path, wrong: str, said: tuple[str, ...]
) -> None:
    """An export that was there already would have to be deleted before the verb takes its folder again."""
    words = ["--model", model, "--output-dir", tmp_path / "out", "--format", "merged", "--verify", release.yaml]
    attack.verb("export", *words, wrong).assert_refused(*said)
    assert not (tmp_path / "out").exists()
