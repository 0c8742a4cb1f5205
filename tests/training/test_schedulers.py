"""Learning rates of every schedule at chosen steps, through the Trainer's arguments, and under the Trainer itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import build_rows, make_trainer
from torch.testing import assert_close
from transformers import Seq2SeqTrainingArguments

from hf_asr.errors import UserError
from hf_asr.training.checkpoints import newest_checkpoint
from hf_asr.training.schedulers import make_schedule, scheduler_arguments
from hf_asr.training.trainer import SpeechTrainer

STEPS, WARMUP = 100, 10
HALF_WAY = 0.5 * (1 + math.cos(math.pi * 0.5))
RATES: list[tuple[Any, dict[int, float]]] = [
    ("linear", {0: 0.0, 5: 0.5, 10: 1.0, 55: 0.5, 100: 0.0}),
    ("cosine", {5: 0.5, 10: 1.0, 55: HALF_WAY, 100: 0.0}),
    ({"name": "cosine_with_restarts", "num_cycles": 2}, {10: 1.0, 54: 0.001217, 55: 1.0, 100: 0.0}),
    ("inverse_sqrt", {5: 0.5, 10: 1.0, 40: 0.5, 90: 1 / 3}),
    ("constant", {0: 1.0, 99: 1.0}),
    ("constant_with_warmup", {5: 0.5, 99: 1.0}),
    ("wsd", {5: 0.5, 10: 1.0, 79: 1.0, 80: 1.0, 90: 0.5, 100: 0.0}),
    ({"name": "warmup_stable_decay", "num_decay_steps": 50}, {40: 1.0, 75: 0.5, 100: 0.0}),
    ({"name": "wsd", "num_stable_steps": 20, "decay_type": "linear"}, {30: 1.0, 65: 0.5, 100: 0.0}),
    ("one_cycle", {0: 1 / 25, 5: 0.52, 10: 1.0, 55: 0.5, 100: 4e-6}),
    ({"name": "one_cycle", "anneal_strategy": "linear", "div_factor": 2}, {0: 0.5, 5: 0.75, 10: 1.0, 55: 0.5}),
    ({"name": "one_cycle", "three_phase": True}, {10: 1.0, 20: 0.04, 100: 4e-6}),
]


def make_arguments(tmp_path: Path, scheduler: Any, **changes: Any) -> Seq2SeqTrainingArguments:
    values = {"output_dir": str(tmp_path), "warmup_steps": WARMUP, "learning_rate": 1.0, "use_cpu": True}
    return Seq2SeqTrainingArguments(**(values | scheduler_arguments(scheduler) | changes))


def make_optimizer(rates: tuple[float, ...] = (1.0, 0.1)) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


@pytest.mark.parametrize(("scheduler", "expected"), RATES, ids=[str(scheduler) for scheduler, _ in RATES])
def test_rates(tmp_path: Path, scheduler: Any, expected: dict[int, float]) -> None:
    optimizer = make_optimizer()
    schedule = make_schedule(make_arguments(tmp_path, scheduler), optimizer, STEPS)
    course = []
    for _ in range(STEPS + 1):
        course.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    found = {step: course[step][0] for step in expected}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert_close(torch.tensor(course)[:, 1], 0.1 * torch.tensor(course)[:, 0])  # each group keeps its share


@pytest.mark.parametrize(("greater", "worse"), [(False, [0.3, 0.4, 0.5]), (True, [0.5, 0.4, 0.3])])
def test_plateau_lowers_what_gets_no_better(tmp_path: Path, greater: bool, worse: list[float]) -> None:
    args = make_arguments(
        tmp_path, {"name": "plateau", "patience": 0, "factor": 0.5}, greater_is_better=greater, eval_strategy="epoch"
    )
    optimizer = make_optimizer()
    schedule: Any = make_schedule(args, optimizer, STEPS)
    for score in worse:
        schedule.step(score)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.25, 0.025])


@pytest.mark.parametrize(
    ("scheduler", "warmup", "part"),
    [
        ({"name": "wsd", "num_decay_steps": 95}, WARMUP, "at most 100 steps"),
        ({"name": "wsd", "decay_type": "steep"}, WARMUP, "decay type"),
        ({"name": "one_cycle", "three_phase": True}, 60, "less than half of the 100 steps"),
        ({"name": "one_cycle", "anneal_strategy": "sine"}, WARMUP, "anneal_strategy"),
        ({"name": "cosine_with_min_lr"}, WARMUP, "cosine_with_min_lr"),
    ],
)
def test_refusals(tmp_path: Path, scheduler: Any, warmup: int, part: str) -> None:
    with pytest.raises(UserError, match=part):
        make_schedule(make_arguments(tmp_path, scheduler, warmup_steps=warmup), make_optimizer(), STEPS)


def test_one_cycle_of_one_step(tmp_path: Path) -> None:
    optimizer = make_optimizer()
    schedule = make_schedule(make_arguments(tmp_path, "one_cycle", warmup_steps=0), optimizer, 1)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)


RESUMED = ["one_cycle", "wsd", "plateau", "cosine_with_restarts", "inverse_sqrt"]


@pytest.mark.parametrize("scheduler", RESUMED)
def test_a_resumed_training_has_the_same_rates(tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeechTrainer, "validation_scores", lambda self: {"wer": 1.0 + self.state.global_step})
    common: dict[str, Any] = {
        "rows": build_rows(12),
        "max_steps": 9,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 20,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "metric_for_best_model": "wer",
        "greater_is_better": False,
        "warmup_steps": 2,
        "batch": 4,
        "accumulation": 1,
        **scheduler_arguments({"name": scheduler, **({"patience": 0} if scheduler == "plateau" else {})}),
    }
    whole = make_trainer(tmp_path / "run", **common)
    whole.train()
    folder = tmp_path / "run" / "checkpoints"
    for step in range(6, 10):
        (folder / f"checkpoint-{step}" / "model.safetensors").unlink()
    resumed = make_trainer(tmp_path / "run", **common)
    resumed.train(newest_checkpoint(folder))
    rates = [[e["learning_rate"] for e in t.state.log_history if "learning_rate" in e] for t in (whole, resumed)]
    assert rates[0] == rates[1] and len(rates[0]) == 9 and len(set(rates[0])) > 2
