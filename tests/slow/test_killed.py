"""A run killed with -9 at random moments and resumed gives the losses of one that was never killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

KILLS = 5
STEPS = 120


def start(project_root: Path, yaml: Path, *changes: str) -> subprocess.Popen[bytes]:
    recipe = project_root / "recipes" / "finetune_seq2seq.py"
    command = [sys.executable, str(recipe), "--config", str(yaml), "training.resume_from_checkpoint=true", *changes]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def steps_logged(run: Path) -> int:
    log = run / "sample_ids.jsonl"
    return log.read_text().count("\n") if log.is_file() else 0


def trained_history(run: Path) -> list[dict[str, float]]:
    state = json.loads((run / "checkpoints" / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


@pytest.mark.slow
def test_killed_five_times(project_root: Path, tmp_path: Path) -> None:
    parts = make_tiny_whisper(tmp_path / "model", d_model=32), make_tiny_corpus(tmp_path / "corpus", train=11)
    settings = {
        "max_steps": STEPS,
        "logging_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "early_stopping_patience": 0,
        "log_sample_ids": True,
    }
    yaml = tiny_yaml(tmp_path, *parts, **settings)
    changes = ["model.dropout=0.1", "evaluation.baseline=false"]
    assert start(project_root, yaml, "experiment.name=whole", *changes).wait() == 0
    killed = tmp_path / "runs" / "killed"
    chance = random.Random(0)
    for kill in range(KILLS):
        process = start(project_root, yaml, "experiment.name=killed", *changes)
        goal = (kill + 1) * STEPS // (KILLS + 1) + chance.randint(-5, 5)
        while process.poll() is None and steps_logged(killed) < goal:
            time.sleep(0.002)
        assert process.poll() is None, f"the run ended with {process.returncode} before kill {kill + 1}"
        time.sleep(chance.random() / 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(project_root, yaml, "experiment.name=killed", *changes).wait() == 0
    whole = tmp_path / "runs" / "whole"
    assert trained_history(killed) == trained_history(whole)
    assert (killed / "sample_ids.jsonl").read_text() == (whole / "sample_ids.jsonl").read_text()
    results = [json.loads((run / "test" / "test_results.json").read_text())["wer"] for run in (whole, killed)]
    assert results[0] == results[1]
