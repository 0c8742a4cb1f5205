"""The recipe whole, on tones and a tiny Whisper: files, refusals, resume, cached against live against streamed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper
from transformers import WhisperForConditionalGeneration, pipeline

from hf_asr.cli.outcome import run_recipe


@pytest.fixture(scope="session")
def recipe(project_root: Path) -> Callable[[Sequence[str]], None]:
    """``main`` of recipes/finetune_seq2seq.py."""
    spec = importlib.util.spec_from_file_location("finetune_seq2seq", project_root / "recipes/finetune_seq2seq.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny checkpoint and a corpus of tones."""
    folder = tmp_path_factory.mktemp("parts")
    return make_tiny_whisper(folder / "model", d_model=32), make_tiny_corpus(folder / "corpus")


@pytest.fixture(scope="session")
def finished(recipe: Any, parts: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one whole run."""
    folder = tmp_path_factory.mktemp("finished")
    yaml = tiny_yaml(folder, *parts, log_sample_ids=True)
    recipe(["--config", str(yaml)])
    return folder / "runs" / "tiny"


def history(run: Path) -> list[dict[str, Any]]:
    """Return the log history of a run's last checkpoint, without times."""
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    entries = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [{key: value for key, value in entry.items() if "runtime" not in key} for entry in entries]


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in history(run) if "loss" in entry]


def test_the_run_folder_is_complete(finished: Path) -> None:
    files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    expected = {
        "config.yaml",
        "environment.json",
        "training.log",
        "metrics_on_all_epochs.json",
        "sample_ids.jsonl",
        "README.md",
        "baseline/test_results.json",
        "test/report.html",
        "baseline/test_predictions.csv",
        "baseline/test_detailed_analysis.json",
        "test/test_results.json",
        "test/test_predictions.csv",
        "test/test_detailed_analysis.json",
        "best_checkpoint/model.safetensors",
        "best_checkpoint/config.yaml",
        "best_checkpoint/preprocessor_config.json",
        "best_checkpoint/generation_config.json",
        "checkpoints/checkpoint-6/config.yaml",
        "checkpoints/checkpoint-6/environment.json",
    }
    alternatives = {"best_checkpoint/preprocessor_config.json": "best_checkpoint/processor_config.json"}
    missing = {name for name in expected - files if alternatives.get(name) not in files}
    assert not missing
    assert any(name.startswith("tensorboard/") for name in files)


def test_results_have_the_promised_keys(finished: Path) -> None:
    for part in ("baseline", "test"):
        results = json.loads((finished / part / "test_results.json").read_text())
        promised = {"wer", "cer", "mer", "wil", "substitutions", "deletions", "insertions", "hits", "num_utterances"}
        promised |= {"num_words", "normalizer", "wer_interval", "seconds_of_audio", "rtfx", "skipped"}
        assert promised <= set(results)
        low, high = results["wer_interval"]
        assert low <= results["wer"] <= high and results["num_utterances"] == 4 and results["normalizer"] == "basic"
        errors = results["substitutions"] + results["deletions"] + results["insertions"]
        assert results["wer"] == errors / results["num_words"]


def test_training_moves_the_loss_down_and_is_told_per_epoch(finished: Path) -> None:
    values = losses(finished)
    assert len(values) == 6 and values[-1] < values[0]
    epochs = json.loads((finished / "metrics_on_all_epochs.json").read_text())
    assert [entry["epoch"] for entry in epochs] == [1.0, 2.0]
    assert {"eval_loss", "eval_wer", "eval_cer", "eval_substitutions", "eval_hits", "loss"} <= set(epochs[0])


def test_each_clip_once_an_epoch(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "sample_ids.jsonl").read_text().splitlines()]
    ids = [id for line in lines for id in line["ids"]]
    assert len(ids) == 24 and all(ids.count(id) == 2 for id in ids) and len(set(ids[:12])) == 12


def test_best_checkpoint_is_a_stock_model(finished: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(finished / "best_checkpoint")
    config = json.loads((finished / "best_checkpoint" / "config.json").read_text())
    assert config["use_cache"]
    assert config["architectures"] == ["WhisperForConditionalGeneration"]
    assert (model.generation_config.language, model.generation_config.task) == ("en", "transcribe")
    speech = pipeline("automatic-speech-recognition", model=str(finished / "best_checkpoint"), device="cpu")
    samples = {"raw": torch.zeros(16000).numpy(), "sampling_rate": 16000}
    assert isinstance(speech(samples, generate_kwargs={"max_new_tokens": 4})["text"], str)


def test_a_run_is_never_overwritten(recipe: Any, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    code = run_recipe(recipe, ["--config", str(finished.parents[1] / "tiny.yaml")])
    assert code == 2 and "resume_from_checkpoint" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_dry_run_shows_labels_and_writes_nothing(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe(["--config", str(tiny_yaml(tmp_path, *parts)), "--dry-run"])
    shown = capsys.readouterr().out
    assert shown.count("<|en|><|transcribe|><|notimestamps|>") == 10 and "Forecast" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml"}


def test_cached_live_and_streamed_give_the_same_losses(recipe: Any, parts: tuple[Path, Path], tmp_path: Path) -> None:
    curves = {}
    ways: dict[str, list[str]] = {
        "cached": [],
        "live": ["features.cache=false"],
        "streamed": ["data.streaming=true"],
    }
    for name, changes in ways.items():
        yaml = tiny_yaml(tmp_path, *parts, max_steps=5, train_sampling_strategy="sequential", log_sample_ids=True)
        recipe(["--config", str(yaml), f"experiment.name={name}", "evaluation.baseline=false", *changes])
        run = tmp_path / "runs" / name
        curves[name] = (losses(run), (run / "sample_ids.jsonl").read_text())
    assert curves["live"] == curves["cached"]
    assert curves["streamed"] == curves["cached"]


def test_resuming_gives_the_digits_of_an_unbroken_run(
    recipe: Any, parts: tuple[Path, Path], finished: Path, tmp_path: Path
) -> None:
    yaml = str(tiny_yaml(tmp_path, *parts, log_sample_ids=True))
    resume = "training.resume_from_checkpoint=true"
    recipe(["--config", yaml, resume])
    run = tmp_path / "runs" / "tiny"
    (run / "checkpoints" / "checkpoint-6" / "optimizer.pt").unlink()
    recipe(["--config", yaml, resume])
    assert history(run) == history(finished)
    assert (run / "sample_ids.jsonl").read_text() == (finished / "sample_ids.jsonl").read_text()
    results = [json.loads((folder / "test" / "test_results.json").read_text()) for folder in (run, finished)]
    assert results[0]["wer"] == results[1]["wer"] and results[0]["wer_interval"] == results[1]["wer_interval"]


def test_lora_ends_as_a_stock_model(recipe: Any, parts: tuple[Path, Path], tmp_path: Path) -> None:
    yaml = tiny_yaml(tmp_path, *parts, max_steps=2)
    recipe(["--config", str(yaml), "peft.method=lora", "peft.r=2", "evaluation.baseline=false"])
    best = tmp_path / "runs" / "tiny" / "best_checkpoint"
    assert not list(best.glob("adapter*"))
    WhisperForConditionalGeneration.from_pretrained(best)


def test_without_evaluation_the_last_checkpoint_is_the_best(
    recipe: Any, parts: tuple[Path, Path], tmp_path: Path
) -> None:
    yaml = tiny_yaml(tmp_path, *parts, eval_strategy="no", max_steps=2)
    recipe(["--config", str(yaml), "evaluation.baseline=false"])
    run = tmp_path / "runs" / "tiny"
    best = WhisperForConditionalGeneration.from_pretrained(run / "best_checkpoint").state_dict()
    last = WhisperForConditionalGeneration.from_pretrained(run / "checkpoints" / "checkpoint-2").state_dict()
    assert all(torch.equal(best[name], last[name]) for name in last)
    assert not (run / "baseline").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["training.train_sampling_strategy=group_by_length"], "random, sequential"),
        (["freeze.groups=[enocder]"], "enocder"),
        (["data.path=nowhere.csv"], "nowhere.csv"),
        (["model.name_or_path=no/such-model-at-all"], "no/such-model-at-all"),
        (["data.language=xx-not-a-tag-"], "data.language"),
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
    assert code == 2 and words in last
