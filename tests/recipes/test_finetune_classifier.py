"""The classifier's recipe whole, on tones and a tiny encoder: files, the bank on and off, refusals, resume, numbers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_classifier import make_tiny_wav2vec2
from helpers.tiny_corpus import tone
from helpers.tiny_whisper import make_tiny_whisper
from transformers import AutoModelForAudioClassification, WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_asr.cli import main as cli_main
from hf_asr.cli.outcome import run_recipe
from hf_asr.data.audio import SAMPLE_RATE, encode

CLASSES = ("low", "high", "noise")


@pytest.fixture(scope="session")
def recipe(project_root: Path) -> Callable[[Sequence[str]], None]:
    """``main`` of recipes/finetune_classifier.py."""
    spec = importlib.util.spec_from_file_location(
        "finetune_classifier", project_root / "recipes/finetune_classifier.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def make_corpus(folder: Path) -> Path:
    """Write 24 tones and ``manifest.csv`` (path, kind, pitch, one, rare, speaker, split): no text."""
    folder.mkdir()
    lines = ["path,kind,pitch,one,rare,speaker,split"]
    for index in range(24):
        split = "train" if index < 16 else ("validation" if index < 20 else "test")
        samples = tone([0, 40, 80][index % 3], 0.5 + 0.1 * (index % 5))
        (folder / f"clip{index}.wav").write_bytes(encode(samples, SAMPLE_RATE, "wav"))
        rare = "odd" if index == 23 else CLASSES[index % 2]
        lines.append(f"clip{index}.wav,{CLASSES[index % 3]},{index % 3 * 10 + 5},same,{rare},s{index % 4},{split}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny checkpoint and a corpus of tones."""
    folder = tmp_path_factory.mktemp("parts")
    return make_tiny_whisper(folder / "model", chunk_length=2, encoder_layers=2), make_corpus(folder / "corpus")


def tiny_yaml(folder: Path, model: Path, manifest: Path, **training: object) -> Path:
    """Write the YAML of a run that takes a second or two; return its path."""
    sections = {
        "experiment": {"name": "tiny", "output_dir": str(folder / "runs")},
        "model": {"name_or_path": str(model)},
        "data": {
            "corpus": "manifest",
            "path": str(manifest),
            "columns": {"split": "split", "label": "kind"},
            "max_seconds": 2,
        },
        "features": {"cache_dir": str(folder / "cache"), "num_proc": 1},
        "head": {"dropout": 0.0},
        "training": {
            "per_device_train_batch_size": 4,
            "num_train_epochs": 2,
            "logging_steps": 1,
            "use_cpu": True,
            **training,
        },
        "evaluation": {"batch_size": 4},
    }
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(sections, indent=1))  # JSON is YAML
    return path


def history(run: Path) -> list[dict[str, Any]]:
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    entries = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [{key: value for key, value in entry.items() if "runtime" not in key} for entry in entries]


def results_of(run: Path, part: str = "test") -> dict[str, Any]:
    return json.loads((run / part / "test_results.json").read_text())


@pytest.fixture(scope="session")
def finished(recipe: Any, parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one whole run, with a bank."""
    folder = tmp_path_factory.mktemp("finished")
    recipe(["--config", str(tiny_yaml(folder, *parts)), "features.bank=on"])
    return folder / "runs" / "tiny"


def test_the_run_folder_is_complete(finished: Path) -> None:
    files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    parts = {f"{part}/test_{name}" for part in ("baseline", "test") for name in ("results.json", "predictions.csv")}
    best = {f"best_checkpoint/{name}" for name in ("model.safetensors", "config.json", "preprocessor_config.json")}
    assert parts | best | {"config.yaml", "README.md", "metrics_on_all_epochs.json", "training.log"} <= files


def test_results_stand_beside_the_majority(finished: Path) -> None:
    test, baseline = results_of(finished), results_of(finished, "baseline")
    assert {"accuracy", "accuracy_interval", "macro_f1", "recall", "confusion_matrix"} <= set(test)
    assert test["majority_accuracy"] == baseline["accuracy"]
    assert test["num_utterances"] == sum(map(sum, test["confusion_matrix"])) == 4
    assert sorted(test["classes"]) == sorted(CLASSES)
    epochs = json.loads((finished / "metrics_on_all_epochs.json").read_text())
    assert {"eval_loss", "eval_accuracy", "eval_macro_f1", "loss"} <= set(epochs[0])


def test_the_card_shows_the_matrix_and_no_path(finished: Path) -> None:
    card = (finished / "README.md").read_text()
    assert "pipeline_tag: audio-classification" in card
    assert "| | high | low | noise | recall |" in card
    assert str(finished.parents[1]) not in card


def test_the_best_checkpoint_loads_through_auto_classes(finished: Path) -> None:
    model = AutoModelForAudioClassification.from_pretrained(finished / "best_checkpoint")
    assert set(model.config.id2label.values()) == set(CLASSES)


def test_evaluate_gives_the_same_digits(finished: Path, tmp_path: Path) -> None:
    words = ["--model", str(finished / "best_checkpoint"), "--config", str(finished / "config.yaml")]
    assert cli_main(["evaluate", *words, "--output-dir", str(tmp_path), "training.use_cpu=true"]) == 0
    test, again = results_of(finished), json.loads((tmp_path / "test_results.json").read_text())
    same = ("accuracy", "accuracy_interval", "macro_f1", "confusion_matrix", "majority_accuracy")
    assert {name: again[name] for name in same} == {name: test[name] for name in same}


@pytest.mark.parametrize("layers", ["weighted", "last"])
def test_with_the_bank_the_losses_are_the_same_and_the_encoder_rests(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: str
) -> None:
    calls, forward = [], WhisperEncoder.forward
    monkeypatch.setattr(WhisperEncoder, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    curves, counts = {}, {}
    for way in ("off", "on", "auto"):
        calls.clear()
        yaml = tiny_yaml(tmp_path, *parts)
        recipe(["--config", str(yaml), f"experiment.name=bank_{way}", f"features.bank={way}", f"head.layers={layers}"])
        counts[way] = len(calls)
        curves[way] = [
            [entry[name] for entry in history(tmp_path / "runs" / f"bank_{way}") if name in entry]
            for name in ("loss", "grad_norm", "eval_loss")
        ]
    assert curves["on"] == curves["auto"]
    for found, expected in zip(curves["on"], curves["off"], strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    assert counts["off"] > 10
    # 16 clips of train, 4 at once; the other 8 sound like some of these, and the second run reads the first's bank.
    assert (counts["on"], counts["auto"]) == (4, 0)


def test_resuming_gives_the_digits_of_an_unbroken_run(
    recipe: Any, parts: tuple[Path, Path], finished: Path, tmp_path: Path
) -> None:
    yaml, options = str(tiny_yaml(tmp_path, *parts)), ["features.bank=on", "training.resume_from_checkpoint=true"]
    recipe(["--config", yaml, *options])
    run = tmp_path / "runs" / "tiny"
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (last / "optimizer.pt").unlink()
    recipe(["--config", yaml, *options])
    assert history(run) == history(finished)
    assert results_of(run)["confusion_matrix"] == results_of(finished)["confusion_matrix"]


def test_numbers_on_wav2vec2(recipe: Any, parts: tuple[Path, Path], tmp_path: Path) -> None:
    yaml = tiny_yaml(tmp_path, make_tiny_wav2vec2(tmp_path / "wav2vec2"), parts[1])
    recipe(["--config", str(yaml), "head.task=regression", "data.columns.label=pitch", "features.bank=auto"])
    test = results_of(tmp_path / "runs" / "tiny")
    assert {"rmse", "rmse_interval", "r2", "rmse_of_mean"} <= set(test)
    assert test["rmse_of_mean"] == results_of(tmp_path / "runs" / "tiny", "baseline")["rmse"]
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "runs" / "tiny" / "best_checkpoint")
    assert model.config.model_type == "hf_asr_regressor"
    assert model.config.target_mean == pytest.approx(14.375)


def test_adapters_in_the_encoder_and_the_head_are_trained(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe(["--config", str(tiny_yaml(tmp_path, *parts)), "peft.method=lora", "peft.r=2"])
    best = tmp_path / "runs" / "tiny" / "best_checkpoint"
    assert not list(best.glob("adapter*"))
    trained = AutoModelForAudioClassification.from_pretrained(best).state_dict()
    base = WhisperForConditionalGeneration.from_pretrained(parts[0]).model.encoder.state_dict()
    moved = {name for name, value in base.items() if not torch.equal(value, trained[f"encoder.{name}"])}
    assert moved and all("q_proj" in name or "v_proj" in name for name in moved)
    losses = [entry["loss"] for entry in history(tmp_path / "runs" / "tiny") if "loss" in entry]
    assert len(set(losses)) > 1


def test_the_last_layer_of_the_encoder_can_be_trained(recipe: Any, parts: tuple[Path, Path], tmp_path: Path) -> None:
    changes = ["freeze.last_n_encoder_layers=1", "training.max_steps=1", "training.eval_strategy=no"]
    recipe(["--config", str(tiny_yaml(tmp_path, *parts)), *changes])
    model = AutoModelForAudioClassification.from_pretrained(tmp_path / "runs" / "tiny" / "best_checkpoint")
    assert not model.config.round_states


def test_a_dry_run_shows_labels_and_writes_nothing(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe(["--config", str(tiny_yaml(tmp_path, *parts)), "--dry-run"])
    shown = capsys.readouterr().out
    assert "reference: low\n  labels:    low" in shown
    assert "Forecast" in shown and "disk: bank" not in shown
    recipe(["--config", str(tiny_yaml(tmp_path, *parts)), "features.bank=on", "--dry-run"])
    assert "disk: bank (train, validation, test)" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.columns.label=emotion"], "has no column for data.columns.label: emotion"),
        (
            ["data.columns.label=null", "data.columns.text=kind"],
            "expected the column that says what each clip is, found no data",
        ),
        (["data.columns.label=one"], "expected at least two classes in train, found one, 'same'"),
        (["data.columns.label=rare"], "test: expected the classes of train (high, low), found odd as well"),
        (["head.task=regression"], "expected numbers (head.task is regression), found 'low'"),
        (["features.bank=on", "augment.enabled=true", "augment.gain={probability: 1}"], "stored states cannot be"),
        (["features.bank=on", "model.layerdrop=0.1"], "model.layerdrop makes the encoder draw at random"),
        (["features.bank=on", "peft.method=lora"], "trains adapters inside the encoder: set peft.method=none"),
        (
            ["features.bank=on", "freeze.groups=[encoder]", "freeze.unfreeze={1: [encoder]}"],
            "freeze.unfreeze trains what was frozen",
        ),
        (["features.bank=on", "freeze.last_n_encoder_layers=1"], "trains layers of the encoder: remove it"),
        (["features.bank=on", "freeze.groups=[feature_encoder]"], "leaves encoder weights to train"),
        (["features.bank=on", "features.bank_max_gb=1e-9"], "features.bank: expected at most"),
        (["evaluation.generation.num_beams=2"], "a classifier does not write text"),
        (["model.family=regressor"], "model.family: expected classifier"),
    ],
)
def test_mistakes_get_one_message(
    recipe: Any,
    parts: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: list[str],
    words: str,
) -> None:
    code = run_recipe(recipe, ["--config", str(tiny_yaml(tmp_path, *parts)), *changes])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert words in last


def test_a_bank_that_does_not_fit_is_told_before_a_run_is_begun(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    yaml = tiny_yaml(tmp_path, *parts)
    assert run_recipe(recipe, ["--config", str(yaml), "features.bank=on", "features.bank_max_gb=1e-9"]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


def test_a_whole_bank_needs_no_more_room(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written already was asked for once more, so a bank that fills its disk could be read by no other run."""
    words = ["--config", str(tiny_yaml(tmp_path, *parts)), "features.bank=on", "training.max_steps=1"]
    recipe(words)
    monkeypatch.setattr("hf_asr.features.bank_room.shutil.disk_usage", lambda place: SimpleNamespace(free=20_000))
    recipe([*words, "experiment.name=again"])
    log = (tmp_path / "runs" / "again" / "training.log").read_text()
    assert log.count("reused from") >= 3 and "0.00 GB free" in log
