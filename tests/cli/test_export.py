"""hf-asr export: the verb, its verification and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.scripted_whisper import make_talker
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml

from hf_asr.cli import main
from hf_asr.export import ctranslate2


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and the YAML of a corpus with seven test clips."""
    folder = tmp_path_factory.mktemp("parts")
    model = make_talker(folder / "model")
    return model, tiny_yaml(folder, model, make_tiny_corpus(folder / "corpus", test=7))


def exported(parts: tuple[Path, Path], output: Path, *words: str) -> int:
    return main(["export", "--model", str(parts[0]), "--output-dir", str(output), *words])


def test_verification_is_written_and_told(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--format", "ctranslate2", "--quantization", "float32", "--verify", str(parts[1]), "data.limit.test=5"]
    assert exported(parts, tmp_path / "out", *words) == 0
    found = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert (found["format"], found["quantization"]) == ("ctranslate2", "float32")
    assert found["runtime"].startswith("ctranslate2 ")
    assert (found["normalizer"], found["split"], found["num_utterances"]) == ("basic", "test", 5)
    assert found["wer_difference"] == found["exported"]["wer"] - found["original"]["wer"] == 0
    assert found["wer_difference_interval"] == [0, 0]
    assert found["identical_texts"] == 5
    assert (found["margin"], found["passed"], found["window"]) == (0.005, True, "full")
    for side in ("original", "exported"):
        results = json.loads((tmp_path / "out" / "verify" / side / "test_results.json").read_text())
        assert results["wer"] == found[side]["wer"]
    shown = capsys.readouterr().out
    assert "difference +0.00 points of WER" in shown
    assert "within the margin of 0.5 points" in shown


def test_a_worse_model_ends_with_1(
    parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ctranslate2.Writer, "generate", _babble)
    words = ["--format", "ctranslate2", "--verify", str(parts[1])]
    assert exported(parts, tmp_path / "out", *words) == 1
    found = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert not found["passed"]
    assert found["wer_difference_interval"][1] > found["margin"]
    assert found["exported"]["insertions"] > found["original"]["insertions"]
    assert "above the margin" in capsys.readouterr().out
    assert exported(parts, tmp_path / "wide", *words, "--margin", "100") == 1  # 10 words for each of 1 to 5


def test_a_thinned_window_is_exported_as_the_full_one(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--format", "merged", "--verify", str(parts[1]), "data.limit.test=2"]
    assert exported(parts, tmp_path / "out", *words, "model.window=thinned", "evaluation.window=thinned") == 0
    assert json.loads((tmp_path / "out" / "verify.json").read_text())["window"] == "full"
    assert "the full window is computed" in capsys.readouterr().err


def test_batches_by_seconds_are_told(parts: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["--format", "merged", "--verify", str(parts[1]), "data.limit.test=2", "evaluation.batch_seconds=30"]
    assert exported(parts, tmp_path / "out", *words) == 0
    found = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert found["batch_seconds"] == 30 and "batch_size" not in found


def test_without_verification_nothing_but_the_model_is_there(
    parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported(parts, tmp_path / "out", "--format", "merged", "--quantization", "float16") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not {"verify", "verify.json"} & names
    assert "merged, float16" in capsys.readouterr().out


def _babble(self: Any, input_features: Any, attention_mask: Any, **options: Any) -> list[list[int]]:
    """Write "! ! ! ..." for every clip: ten words that no reference has."""
    return [[65, 220] * 10 for _ in input_features]
