"""The CTC recipe whole, on tones and tiny models: files, a new head, resume, refusals, and the stock classes."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_ctc import make_tiny_ctc
from safetensors.torch import load_file
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor, pipeline

from hf_asr.cli import main as cli
from hf_asr.cli.outcome import run_recipe
from hf_asr.errors import UserError


@pytest.fixture(scope="session")
def recipe(project_root: Path) -> Callable[[Sequence[str]], None]:
    """``main`` of recipes/finetune_ctc.py."""
    spec = importlib.util.spec_from_file_location("finetune_ctc", project_root / "recipes/finetune_ctc.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pretrained encoder without a head, and a corpus of tones."""
    folder = tmp_path_factory.mktemp("parts")
    return make_tiny_ctc(folder / "model", head=False), make_tiny_corpus(folder / "corpus")


def ctc_yaml(folder: Path, parts: tuple[Path, Path], **training: Any) -> Path:
    """Write the YAML of a CTC run."""
    path = tiny_yaml(folder, *parts, **training)
    sections = json.loads(path.read_text())
    sections["evaluation"]["generation"] = {}
    sections["features"]["store_dtype"] = "float32"
    sections["freeze"] = {"groups": ["feature_encoder"]}
    path.write_text(json.dumps(sections))
    return path


@pytest.fixture(scope="session")
def finished(recipe: Any, parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one whole run."""
    folder = tmp_path_factory.mktemp("finished")
    recipe(["--config", str(ctc_yaml(folder, parts))])
    return folder / "runs" / "tiny"


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "test_results.json").read_text())


def texts(folder: Path) -> list[str]:
    with open(folder / "test_predictions.csv", encoding="utf-8", newline="") as file:
        return [row["hypothesis"] for row in csv.DictReader(file)]


def test_the_run_folder_is_complete(finished: Path) -> None:
    files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    best = ("config.json", "model.safetensors", "vocab.json", "tokenizer_config.json", "config.yaml")
    expected = {f"best_checkpoint/{name}" for name in best} | {
        "README.md",
        "training.log",
        "baseline/test_results.json",
        "test/report.html",
        "test/test_results.json",
        "test/test_predictions.csv",
        "test/test_detailed_analysis.json",
    }
    assert not expected - files


def test_the_vocabulary_is_that_of_train(finished: Path, parts: tuple[Path, Path]) -> None:
    with open(parts[1], encoding="utf-8", newline="") as file:
        train = [row["text"] for row in csv.DictReader(file) if row["split"] == "train"]
    tokens = json.loads((finished / "best_checkpoint" / "vocab.json").read_text())
    assert set(tokens) == {"[PAD]", "[UNK]", "|", *"".join(train).replace(" ", "")}
    assert "CTC over" in (finished / "README.md").read_text()


def test_the_stock_classes_write_what_the_test_did(finished: Path, parts: tuple[Path, Path]) -> None:
    best = finished / "best_checkpoint"
    model = Wav2Vec2ForCTC.from_pretrained(best)
    assert model.config.vocab_size == len(Wav2Vec2Processor.from_pretrained(best).tokenizer)
    recognise = pipeline("automatic-speech-recognition", model=str(best))
    with open(finished / "test" / "test_predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        samples, _ = soundfile.read(parts[1].parent / row["id"], dtype="float32")
        assert recognise(samples)["text"].split() == row["hypothesis"].split()


def test_what_is_frozen_stays_and_the_rest_moves(finished: Path, parts: tuple[Path, Path]) -> None:
    before, after = load_file(parts[0] / "model.safetensors"), load_file(finished / "best_checkpoint/model.safetensors")
    moved = {name: not torch.equal(value, after[f"wav2vec2.{name}"]) for name, value in before.items()}
    assert not any(changed for name, changed in moved.items() if name.startswith("feature_extractor."))
    assert any(moved.values())


def test_how_it_was_decoded_is_told(finished: Path) -> None:
    assert results(finished / "test")["generation"] == {"beam": 1}


def test_evaluate_repeats_the_test(finished: Path, tmp_path: Path) -> None:
    words = ["evaluate", "--model", str(finished / "best_checkpoint"), "--config", str(finished / "config.yaml")]
    assert cli([*words, "--output-dir", str(tmp_path), "--save-predictions"]) == 0
    assert texts(tmp_path) == texts(finished / "test")
    for name in ("wer", "cer", "hits", "generation"):
        assert results(tmp_path)[name] == results(finished / "test")[name]


def test_dry_run_shows_labels_and_writes_nothing(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe(["--config", str(ctc_yaml(tmp_path, parts)), "--dry-run"])
    out = capsys.readouterr().out
    assert "labels:    one 0" in out
    assert "Forecast" in out
    assert not (tmp_path / "runs").exists()


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    recipe: Any, finished: Path, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    yaml_path = ctc_yaml(tmp_path, parts)
    recipe(["--config", str(yaml_path)])
    run = tmp_path / "runs" / "tiny"
    checkpoints = sorted((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    weights = load_file(run / "best_checkpoint" / "model.safetensors")
    recipe(["--config", str(yaml_path), f"training.resume_from_checkpoint={checkpoints[0]}"])
    again = load_file(run / "best_checkpoint" / "model.safetensors")
    assert {name: float((weights[name] - again[name]).abs().max()) for name in weights} == dict.fromkeys(weights, 0.0)


def test_clips_shorter_than_their_label_are_named_and_not_learnt(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    # At 12.5 states a second, 0.5 s of "one two three ..." has no alignment.
    model = make_tiny_ctc(tmp_path / "parakeet", "parakeet")
    path = ctc_yaml(tmp_path, (model, parts[1]), num_train_epochs=1)
    recipe(["--config", str(path), "freeze.groups=[feature_encoder]", "model.dtype=float32"])
    log = (tmp_path / "runs" / "tiny" / "training.log").read_text()
    assert "label_longer_than_clip" in log


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.streaming=true", "training.max_steps=2"], r"found a stream \(data.streaming\)"),
        (["ctc.vocabulary=checkpoint"], "expects a checkpoint with a CTC head and its characters"),
        (["evaluation.generation={num_beams: 4}"], "Use ctc.beam"),
        (["model.name_or_path=config:whisper-tiny"], "Start recipes/finetune_seq2seq.py instead"),
        (["ctc.beam=5", "ctc.lm=/no/such.arpa"], "found nothing at /no/such.arpa"),
    ],
)
def test_refusals(recipe: Any, parts: tuple[Path, Path], tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe(["--config", str(ctc_yaml(tmp_path, parts)), *words])


def test_the_message_is_the_last_line(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(ctc_yaml(tmp_path, parts)), "ctc.vocabulary=nothing.json"]
    assert run_recipe(recipe, words) == 2
    assert "ctc.vocabulary: expected auto, checkpoint, train, extend" in capsys.readouterr().err.splitlines()[-1]


def test_yaml_of_the_run_says_what_was_asked(finished: Path) -> None:
    assert yaml.safe_load((finished / "config.yaml").read_text())["freeze"]["groups"] == ["feature_encoder"]
