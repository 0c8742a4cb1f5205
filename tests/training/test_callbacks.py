"""The sample log and the table of evaluations."""

from __future__ import annotations

import json
from pathlib import Path

from hf_asr.training.callbacks import SampleLog, evaluations, line_step


def test_the_log_is_cut_to_the_checkpoint(tmp_path: Path) -> None:
    log = SampleLog(tmp_path)
    for step in (1, 2, 3):
        log.append(step, [[f"a{step}"], [f"b{step}", "ё"]])
    with log.path.open("a") as file:
        file.write('{"step": 4, "ra')  # killed in the middle of a line
    log.cut_after(2)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert lines == [
        {"step": 1, "rank": 0, "ids": ["a1"]},
        {"step": 1, "rank": 1, "ids": ["b1", "ё"]},
        {"step": 2, "rank": 0, "ids": ["a2"]},
        {"step": 2, "rank": 1, "ids": ["b2", "ё"]},
    ]


def test_cutting_a_missing_log_does_nothing(tmp_path: Path) -> None:
    SampleLog(tmp_path).cut_after(3)
    assert not list(tmp_path.iterdir())


def test_half_a_line_belongs_to_no_step() -> None:
    assert line_step('{"step": 4, "ra') == float("inf") and line_step('{"step": 4}') == 4


def test_an_evaluation_takes_the_loss_logged_before_it() -> None:
    history = [
        {"loss": 3.0, "grad_norm": 1.0, "learning_rate": 0.1, "step": 1},
        {"loss": 2.0, "grad_norm": 0.5, "learning_rate": 0.2, "step": 2},
        {"eval_loss": 2.5, "eval_wer": 0.9, "epoch": 1.0, "step": 2},
        {"eval_loss": 2.4, "eval_wer": 0.8, "epoch": 2.0, "step": 4},
    ]
    first, second = evaluations(history)
    assert first == {**history[1], **history[2]} and second["loss"] == 2.0 and second["step"] == 4
