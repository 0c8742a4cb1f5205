"""resources.json: seconds of training alone, clips of all epochs, the part that was trained here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_training import make_trainer

from hf_asr.profiling.resident import peak_rss_bytes
from hf_asr.training.resources import RESOURCES, Resources


def trained(run_dir: Path, resume_from: str | None = None, **changes: object) -> dict[str, float]:
    """Train and return what the file says."""
    trainer = make_trainer(run_dir, batch=4, accumulation=2, **changes)
    trainer.add_callback(Resources(run_dir, lambda: trainer.clips_trained))
    trainer.train(resume_from)
    figures: dict[str, float] = json.loads((run_dir / RESOURCES).read_text())
    return figures


def test_clips_and_steps_are_those_of_the_training(tmp_path: Path) -> None:
    figures = trained(tmp_path)
    assert (figures["steps"], figures["steps_in_all"], figures["clips"]) == (2, 2, 16)
    assert figures["clips_per_second"] == pytest.approx(16 / figures["train_seconds"])
    assert 0 < figures["peak_rss_bytes"] <= peak_rss_bytes()


def test_validation_is_left_out_of_the_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, batch=4, accumulation=2)
    watch = Resources(tmp_path, lambda: 16)
    watch.on_train_begin(trainer.args, trainer.state, trainer.control)
    watch.started -= 10
    trainer.state.global_step, trainer.state.epoch = 2, 1.0
    trainer.state.log_history = [{"eval_runtime": 4.0}, {"loss": 1.0}]
    watch.on_train_end(trainer.args, trainer.state, trainer.control)
    figures = json.loads((tmp_path / RESOURCES).read_text())
    assert figures["train_seconds"] == pytest.approx(6, abs=0.5) and figures["validation_seconds"] == 4
    assert figures["clips"] == 16


def test_a_resumed_training_tells_of_its_own_part(tmp_path: Path) -> None:
    trained(tmp_path, max_steps=1, save_strategy="steps", save_steps=1)
    figures = trained(tmp_path, str(tmp_path / "checkpoints" / "checkpoint-1"))
    assert (figures["steps"], figures["steps_in_all"], figures["clips"]) == (1, 2, 8)


def test_a_resume_with_nothing_left_keeps_the_earlier_file(tmp_path: Path) -> None:
    before = trained(tmp_path, save_strategy="steps", save_steps=1)
    assert trained(tmp_path, str(tmp_path / "checkpoints" / "checkpoint-2")) == before
