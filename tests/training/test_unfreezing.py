"""Unfreezing by epoch: who joins when and at which rate, and that a resume before or after it changes no digit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import build_model, build_rows, logged, make_trainer
from transformers import TrainerCallback

from hf_asr.config.arguments import FreezeArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY
from hf_asr.training.checkpoints import newest_checkpoint
from hf_asr.training.schedulers import scheduler_arguments
from hf_asr.training.trainer import SpeechTrainer
from hf_asr.training.unfreezing import unfreezing_plan, untrainable_names, warmup_length

# 12 clips in steps of 4: 3 steps an epoch, 4 epochs.
COMMON: dict[str, Any] = {
    "rows": build_rows(12),
    "batch": 2,
    "accumulation": 2,
    "max_steps": -1,
    "num_train_epochs": 4,
    "optim": "adamw_torch",
    "learning_rate": 0.01,
    "warmup_steps": 2,
    "weight_decay": 0.1,
    "max_grad_norm": 1.0,
    "dropout": 0.1,
    "lr_scheduler_type": "linear",
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 30,
    "train_sampling_strategy": "random",
    "freeze": ["encoder"],
    "unfreeze": {1: ["encoder_layers"], 2: ["feature_encoder"]},
    "learning_rates": {"encoder_layers": 0.001},
}


class Rates(TrainerCallback):
    """Keeps the rate of each parameter group at every step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_pre_optimizer_step(self, *args: Any, optimizer: Any = None, **kwargs: Any) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])


class Moved(TrainerCallback):
    """Keeps which parameters each step changed."""

    def __init__(self) -> None:
        self.before: dict[str, torch.Tensor] = {}
        self.moved: list[set[str]] = []

    def on_pre_optimizer_step(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        self.before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def on_optimizer_step(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        now = dict(model.named_parameters())
        self.moved.append({name for name, value in self.before.items() if not torch.equal(value, now[name])})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training in one piece, with what it did."""
    trainer = make_trainer(tmp_path_factory.mktemp("whole"), **COMMON)
    rates, moved = Rates(), Moved()
    trainer.add_callback(rates)
    trainer.add_callback(moved)
    trainer.train()
    return trainer, rates.rates, moved.moved


def parts(names: set[str]) -> set[str]:
    kinds = {"model.encoder.layers.": "layers", "model.encoder.conv": "convolutions", "model.encoder.": "rest"}
    return {next((kind for start, kind in kinds.items() if name.startswith(start)), "decoder") for name in names}


def test_each_group_moves_from_its_epoch_on(whole: Any) -> None:
    _, _, moved = whole
    assert [parts(names) for names in moved[:3]] == [set(), {"decoder"}, {"decoder"}]  # the warm-up begins at 0
    assert [parts(names) for names in moved[3:6]] == [{"decoder", "layers"}] * 3
    assert [parts(names) for names in moved[6:]] == [{"decoder", "layers", "convolutions"}] * 6


def test_rates_rise_anew_and_keep_their_share(whole: Any) -> None:
    _, rates, _ = whole
    assert [len(step) for step in rates] == [2] * 3 + [4] * 3 + [6] * 6
    linear = [0.0, 0.5] + [(12 - step) / 10 for step in range(2, 12)]
    assert [step[0] for step in rates] == pytest.approx([0.01 * share for share in linear])
    layers = [0.001 * linear[step] * (0.5 if step == 3 else 1.0) for step in range(3, 12)]
    assert [step[2] for step in rates[3:]] == pytest.approx(layers)
    assert rates[6][4] == pytest.approx(0.01 * linear[6] * 0.5) and rates[7][4] == pytest.approx(0.01 * linear[7])


@pytest.mark.parametrize(
    ("scheduler", "stop_at"),
    [*(("linear", step) for step in (2, 3, 4, 6, 8)), ("one_cycle", 3), ("one_cycle", 4), ("plateau", 4)],
)
def test_a_resumed_training_is_the_same(
    tmp_path: Path, scheduler: str, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 3 and 6 are the last of epochs 0 and 1: their checkpoints are without the groups of the next epoch."""
    monkeypatch.setattr(SpeechTrainer, "validation_scores", lambda self: {"wer": 1.0 + self.state.global_step})
    validated = {"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "wer", "greater_is_better": False}
    more = scheduler_arguments({"name": scheduler, **({"patience": 1} if scheduler == "plateau" else {})})
    common = COMMON | more | (validated if scheduler == "plateau" else {})
    whole = make_trainer(tmp_path / "run", **common)
    whole.train()
    folder = tmp_path / "run" / "checkpoints"
    for step in range(stop_at + 1, 13):
        (folder / f"checkpoint-{step}" / "model.safetensors").unlink()
    torch.manual_seed(999)
    resumed = make_trainer(tmp_path / "run", **common)
    rates = Rates()
    resumed.add_callback(rates)
    resumed.train(newest_checkpoint(folder))
    assert logged(resumed) == logged(whole)
    assert len(rates.rates) == 12 - stop_at
    states = [trainer.model.state_dict() for trainer in (whole, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    groups = [[group["lr"] for group in trainer.optimizer.param_groups] for trainer in (whole, resumed)]
    assert groups[0] == groups[1] and len(groups[0]) == 6


def test_what_the_architecture_never_trains_stays() -> None:
    model = build_model()
    assert untrainable_names(model) == {"model.encoder.embed_positions.weight"}
    plan = unfreezing_plan(model, FAMILY, FreezeArguments(groups=["encoder"], unfreeze={1: ["encoder"]}))
    assert len(plan[1]) == sum(name.startswith("model.encoder.") for name, _ in model.named_parameters()) - 1


@pytest.mark.parametrize(
    ("groups", "unfreeze", "part"),
    [
        (["encoder"], {1: ["decoder"]}, "frozen until then, found 'decoder'"),
        (["encoder"], {1: ["encoder"], 2: ["encoder_layers"]}, "freeze.unfreeze.2"),
        (["encoder"], {1: ["enocder"]}, "found 'enocder'"),
        (["encoder"], {1: ["model.nothing.*"]}, "matches none"),
    ],
)
def test_refused_plans(groups: list[str], unfreeze: dict[int, list[str]], part: str) -> None:
    with pytest.raises(UserError, match=part.replace("*", r"\*")):
        unfreezing_plan(build_model(), FAMILY, FreezeArguments(groups=groups, unfreeze=unfreeze))


def test_an_epoch_that_never_comes_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **(COMMON | {"unfreeze": {4: ["encoder"]}}))
    with pytest.raises(UserError, match="epochs below 4"):
        trainer.train()


@pytest.mark.parametrize("changes", [{"ddp_find_unused_parameters": False}, {"ddp_static_graph": True}])
def test_ddp_settings_that_exclude_it(tmp_path: Path, changes: dict[str, bool]) -> None:
    with pytest.raises(UserError, match="ddp_find_unused_parameters"):
        make_trainer(tmp_path, **(COMMON | changes))


@pytest.mark.parametrize(("wanted", "left", "expected"), [(10, 100, 10), (10, 6, 3), (0, 100, 1), (5, 1, 1)])
def test_warm_up_fits_into_what_is_left(wanted: int, left: int, expected: int) -> None:
    assert warmup_length(wanted, left) == expected
