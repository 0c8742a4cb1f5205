"""The average of weights: its values, who uses it, and that a resume changes no digit of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import build_model, build_rows, make_trainer
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import TrainerCallback

from hf_asr.config.arguments import FreezeArguments, PeftArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY
from hf_asr.training.adapters import make_trainable
from hf_asr.training.checkpoints import newest_checkpoint
from hf_asr.training.ema import EMA_FILE
from hf_asr.training.trainer import SpeechTrainer

NAME = "model.decoder.layers.0.fc1.weight"
COMMON: dict[str, Any] = {
    "rows": build_rows(12),
    "batch": 4,
    "accumulation": 1,
    "max_steps": 8,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 20,
    "ema": 0.9,
    "dropout": 0.1,
}


class Weights(TrainerCallback):
    """Keeps a weight after every step."""

    def __init__(self) -> None:
        self.values: list[torch.Tensor] = []

    def on_train_begin(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        self.values.append(dict(model.named_parameters())[NAME].detach().clone())

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.on_train_begin(*args, **kwargs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("ema")
    trainer = make_trainer(folder, **COMMON)
    seen = Weights()
    trainer.add_callback(seen)
    trainer.train()
    return trainer, seen.values, folder / "checkpoints"


def test_it_is_the_average_with_a_ramp(whole: Any) -> None:
    trainer, values, _ = whole
    expected = values[0]
    for step, value in enumerate(values[1:], start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert_close(trainer.model.state_dict()[NAME], expected)
    assert (expected - values[-1]).abs().max() > 1e-4


def test_checkpoints_hold_the_weights_and_the_average(whole: Any) -> None:
    trainer, values, folder = whole
    assert torch.equal(load_file(folder / "checkpoint-8" / "model.safetensors")[NAME], values[-1])
    assert torch.equal(load_file(folder / "checkpoint-8" / EMA_FILE)[NAME], trainer.model.state_dict()[NAME])


@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_resumed_training_has_the_same_average(whole: Any, tmp_path: Path, stop_at: int) -> None:
    trainer, _, _ = whole
    make_trainer(tmp_path, **COMMON).train()
    for step in range(stop_at + 1, 9):
        (tmp_path / "checkpoints" / f"checkpoint-{step}" / "model.safetensors").unlink()
    resumed = make_trainer(tmp_path, **COMMON)
    resumed.train(newest_checkpoint(tmp_path / "checkpoints"))
    states = [each.model.state_dict() for each in (trainer, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_validation_and_the_best_checkpoint_use_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def scores(self: SpeechTrainer) -> dict[str, float]:
        seen.append(self.model.state_dict()[NAME].clone())
        return {"wer": abs(self.state.global_step - 4.0)}  # the best is step 4

    monkeypatch.setattr(SpeechTrainer, "validation_scores", scores)
    best = {"load_best_model_at_end": True, "metric_for_best_model": "wer", "greater_is_better": False}
    trainer = make_trainer(tmp_path, **COMMON, **best, eval_strategy="steps", eval_steps=1)
    trainer.train()
    folder = tmp_path / "checkpoints"
    assert len(seen) == 8
    for step, value in enumerate(seen, start=1):
        assert torch.equal(value, load_file(folder / f"checkpoint-{step}" / EMA_FILE)[NAME])
    assert torch.equal(trainer.model.state_dict()[NAME], seen[3])
    assert json.loads((folder / "checkpoint-8" / "trainer_state.json").read_text())["best_global_step"] == 4


def test_training_goes_on_as_without_it(tmp_path: Path, whole: Any) -> None:
    _, values, _ = whole
    plain = make_trainer(tmp_path, **(COMMON | {"ema": "off"}))
    plain.train()
    assert torch.equal(plain.model.state_dict()[NAME], values[-1])


def test_only_adapters_are_averaged(tmp_path: Path) -> None:
    adapter = PeftArguments(method="lora", r=2, alpha=4, dropout=0.0)
    model, _ = make_trainable(build_model(), FAMILY, FreezeArguments(), adapter, seed=1)
    trainer = make_trainer(tmp_path, **COMMON, model=model)
    trainer.train()
    saved = load_file(tmp_path / "checkpoints" / "checkpoint-8" / EMA_FILE)
    assert saved and all("lora_" in name for name in saved)
    parameters = dict(trainer.model.named_parameters())
    assert all(torch.equal(parameters[name], value) for name, value in saved.items())


def test_a_checkpoint_without_an_average_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path, **(COMMON | {"ema": "off", "max_steps": 2})).train()
    with pytest.raises(UserError, match="kept no average"):
        make_trainer(tmp_path, **COMMON).train(tmp_path / "checkpoints" / "checkpoint-2")


def test_it_takes_in_what_is_unfrozen(tmp_path: Path) -> None:
    unfreezing: dict[str, Any] = {"freeze": ["encoder"], "unfreeze": {1: ["encoder_layers"]}}
    trainer = make_trainer(tmp_path, **(COMMON | unfreezing | {"max_steps": -1, "num_train_epochs": 2}))
    trainer.train()
    first, last = (load_file(tmp_path / "checkpoints" / f"checkpoint-{step}" / EMA_FILE) for step in (3, 6))
    assert set(last) - set(first) == {name for name in last if name.startswith("model.encoder.layers.")} != set()
