"""The ladder's recipe: refusals before anything runs, and a whole ladder of real runs on tones."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.cli.outcome import INTERRUPTED, run_recipe

LADDER = {
    "seeds": [1],
    "variants": {
        "frozen": {"freeze": {"groups": ["encoder"]}},
        "wrong": {"freeze": {"groups": ["no-such-group"]}},
    },
}


@pytest.fixture(scope="module")
def module(project_root: Path) -> ModuleType:
    """recipes/ablation.py."""
    spec = importlib.util.spec_from_file_location("ablation", project_root / "recipes/ablation.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def recipe(module: ModuleType) -> Callable[[Sequence[str]], None]:
    """Its ``main``."""
    main: Callable[[Sequence[str]], None] = module.main
    return main


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A tiny base and a ladder, behind --config."""
    model, corpus = make_tiny_whisper(tmp_path / "model", d_model=32), make_tiny_corpus(tmp_path / "corpus")
    base = tiny_yaml(tmp_path, model, corpus, num_train_epochs=1)
    ladder = tmp_path / "ladder.yaml"
    ladder.write_text(json.dumps({"ladder": LADDER}))
    return ["--config", str(base), str(ladder)]


def test_several_processes_are_refused(
    recipe: Callable[[Sequence[str]], None],
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_recipe(recipe, files) == 2
    assert "expected one process for the ladder, found 2" in capsys.readouterr().err


def test_a_mistake_in_a_variant_is_told_before_anything_runs(
    recipe: Callable[[Sequence[str]], None], files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_recipe(recipe, [*files, "ladder.variants.frozen.freeze.grups=[encoder]"]) == 2
    assert "ladder.variants.frozen: freeze.grups: unknown key" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_ladder_of_real_runs(project_root: Path, files: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(project_root / "recipes/ablation.py"), *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "tiny"
    rows = {row["name"]: row for row in json.loads((folder / "ladder.json").read_text())["rows"]}
    assert list(rows) == ["untouched", "base", "frozen", "wrong"]
    assert "found 'no-such-group'" in rows["wrong"]["failures"]["1"]
    assert rows["frozen"]["comparison"]["verdict"] in ("tie", "better", "worse")
    for name in ("base", "frozen"):
        figures = rows[name]["resources"]["1"]
        assert figures["clips"] == 12 and figures["train_seconds"] > 0 and figures["peak_rss_bytes"] > 2**27
    assert "frozen" in done.stdout and "Bonferroni" in done.stdout
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs" / "base-seed1").rglob("*")}
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and "base-seed1: done before" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs" / "base-seed1").rglob("*")} == before


@pytest.mark.slow
def test_an_interrupted_ladder_goes_on(project_root: Path, files: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(project_root / "recipes/ablation.py"), *files, "ladder.variants.wrong=null"]
    log = tmp_path / "err.txt"
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        while process.poll() is None and "frozen-seed1: started" not in log.read_text():
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
        assert process.wait(timeout=60) == INTERRUPTED
    assert log.read_text().strip().endswith("To go on, give the same command again.")
    rows = json.loads((tmp_path / "runs/tiny/ladder.json").read_text())["rows"]
    assert {row["name"]: row["missing"] for row in rows}["frozen"] == [1]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "base-seed1: done before" in done.stderr and "frozen-seed1: WER" in done.stderr
