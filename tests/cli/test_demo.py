"""`hf-asr demo`: the whole of it with few clips and steps; the real one is marked slow."""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")

from transformers import pipeline

from hf_asr.cli import demo, main
from hf_asr.config.parser import load_arguments
from hf_asr.data import synthetic
from hf_asr.data.synthetic import CORPORA, Corpus, Split
from hf_asr.errors import UserError
from hf_asr.evaluation.report import read_predictions, read_results

RUN_FOLDER = (
    "config.yaml",
    "environment.json",
    "training.log",
    "metrics_on_all_epochs.json",
    "README.md",
    "best_checkpoint/model.safetensors",
    "best_checkpoint/config.yaml",
    "baseline/test_results.json",
    "test/report.html",
    "baseline/test_predictions.csv",
    "test/test_results.json",
    "test/test_predictions.csv",
    "tensorboard",
    "base/config.yaml",
    "base/best_checkpoint/model.safetensors",
    "base/test/test_results.json",
)


def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, corpus in CORPORA.items():
        splits = {split: Split(4, spoken.voices[:2]) for split, spoken in corpus.splits.items()}
        monkeypatch.setitem(CORPORA, name, Corpus(corpus.rates, corpus.pitches, corpus.noise, splits))


def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    real = demo.configurations

    def short(folder: Path) -> tuple[Any, Any]:
        made = real(folder)
        for arguments in made:
            arguments.training |= {"max_steps": 2, "per_device_train_batch_size": 4}
            arguments.features.num_proc = 1
        return made

    monkeypatch.setattr(demo, "configurations", short)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A demo of a few steps: its folder and its exit code."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path_factory.mktemp("cache")))
        few_clips(monkeypatch)
        few_steps(monkeypatch)
        folder = tmp_path_factory.mktemp("runs") / "a demo"
        code = demo.run(argparse.Namespace(output_dir=folder))
        yield folder, code


def test_it_leaves_a_run_folder(finished: tuple[Path, int]) -> None:
    folder, _ = finished
    assert [name for name in RUN_FOLDER if not (folder / name).exists()] == []
    assert "a demo" in (folder / "README.md").read_text(encoding="utf-8")
    for part in ("baseline", "test"):
        assert read_results(folder / part)["num_utterances"] == 8
    assert (folder / "training.log").stat().st_size > 0


def test_two_steps_are_no_result(finished: tuple[Path, int]) -> None:
    _, code = finished
    assert code == 1


def test_what_was_fine_tuned_is_the_base(finished: tuple[Path, int]) -> None:
    folder, _ = finished
    tuned = load_arguments([folder / "config.yaml"])
    assert Path(tuned.model.name_or_path) == folder / "base" / "best_checkpoint"
    assert (tuned.data.corpus, tuned.data.name) == ("synthetic", "shifted")
    assert load_arguments([folder / "base" / "config.yaml"]).data.name == "clean"


def test_evaluate_repeats_its_test_to_the_last_digit(finished: tuple[Path, int], tmp_path: Path) -> None:
    """In another cache too: the clips are spoken again, and are the same."""
    folder, _ = finished
    command = ["evaluate", "--model", str(folder / "best_checkpoint"), "--config", str(folder / "config.yaml")]
    assert main([*command, "--output-dir", str(tmp_path), "--save-predictions"]) == 0
    for key in ("wer", "cer", "mer", "wil", "wer_interval"):
        assert read_results(tmp_path)[key] == read_results(folder / "test")[key]
    assert read_predictions(tmp_path) == read_predictions(folder / "test")


def test_plain_transformers_writes_the_same(finished: tuple[Path, int]) -> None:
    folder, _ = finished
    recognizer = pipeline("automatic-speech-recognition", model=str(folder / "best_checkpoint"), device="cpu")
    arguments = load_arguments([folder / "config.yaml"])
    from hf_asr.data.audio import load
    from hf_asr.utterance import Drops

    hypotheses = {row["id"]: row["hypothesis"] for row in read_predictions(folder / "test")}
    for utterance in list(synthetic.read(arguments.data, "test", Drops()))[:3]:
        heard = recognizer(load(utterance.audio), generate_kwargs={"max_new_tokens": 12})
        assert heard["text"].strip() == hypotheses[utterance.id].strip()


def test_a_run_is_not_overwritten(finished: tuple[Path, int], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = finished
    before = (folder / "config.yaml").stat().st_mtime_ns
    assert main(["demo", "--output-dir", str(folder)]) == 2
    assert f"expected a new folder, found a run in {folder}; delete {folder}" in capsys.readouterr().err
    assert (folder / "config.yaml").stat().st_mtime_ns == before


def test_an_interrupted_one_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.yaml").write_text("")
    with pytest.raises(UserError, match=r"found a run in .*base"):
        demo.check_new(tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [(0.6, 0.01, 0), (0.6, 0.08, 0), (0.6, 0.081, 1), (0.15, 0.049, 0), (0.15, 0.06, 1), (0.0, 0.0, 0)],
)
def test_the_verdict(before: float, after: float, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hf_asr.evaluation.report.read_results", lambda folder: {"wer": before})
    assert demo.verdict(tmp_path, {"wer": after}) == code


def calls(function: ast.FunctionDef) -> list[str]:
    """Return the names of the functions that a function calls, in order."""
    found = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    ordered = sorted(found, key=lambda node: (node.lineno, node.col_offset))
    return [ast.unparse(node.func) for node in ordered]


def test_its_road_is_the_recipes(project_root: Path) -> None:
    recipe = ast.parse((project_root / "recipes" / "finetune_seq2seq.py").read_text(encoding="utf-8"))
    page = ast.parse((project_root / "hf_asr" / "cli" / "demo.py").read_text(encoding="utf-8"))
    theirs, ours = (
        next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        for tree, name in ((recipe, "main"), (page, "train"))
    )
    missing = [name for name in calls(ours) if name not in calls(theirs)]
    left_out = {name for name in calls(theirs) if name not in calls(ours)}
    assert missing == []
    optional = {"parse_recipe", "check_run_folder", "check_names", "check_push", "needed_splits", "check_augmentation"}
    optional |= {"check_bank", "forecast_bank", "check_fits", "check_batches", "check_streams", "check_limits"}
    optional |= {"family.check_decoding", "family.decoding_options"}
    assert left_out <= optional | {"drop_suspicious", "dry_run", "publish_while_training", "publish_run"}


@pytest.mark.slow
def test_the_real_one_keeps_its_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command = [sys.executable, "-m", "hf_asr", "demo", "--output-dir", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "demo" / "test" / "test_results.json").read_text())
    assert results["num_utterances"] >= 300
    assert results["wer"] <= 0.05
    assert "hf-asr transcribe" in done.stdout
