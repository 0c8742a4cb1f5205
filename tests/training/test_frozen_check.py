"""The checksum of frozen weights: what it sees, what it leaves out, and that a moved weight ends the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import build_model, make_trainer
from torch import nn
from transformers import TrainerCallback

from hf_asr.errors import UserError
from hf_asr.training.freezing import hold_frozen_statistics
from hf_asr.training.frozen_check import checksum, frozen_tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int8, torch.int64])
def test_one_changed_bit_changes_the_sum(dtype: torch.dtype) -> None:
    tensor = torch.arange(60).reshape(6, 10).to(dtype)
    changed = tensor.clone()
    changed[3, 7] = torch.nextafter(changed[3, 7], torch.tensor(1e9)) if dtype == torch.float32 else changed[3, 7] + 1
    assert checksum(tensor) == checksum(tensor.clone()) == checksum(tensor.t().contiguous().t())
    assert len({checksum(tensor), checksum(changed), checksum(tensor.flip(0)), checksum(-tensor)}) == 4


def test_zero_and_minus_zero_are_not_the_same_bits() -> None:
    assert checksum(torch.zeros(3)) != checksum(torch.tensor([0.0, -0.0, 0.0]))


class Slip(TrainerCallback):
    """Moves one weight by the smallest step, as a fault would."""

    def __init__(self, name: str) -> None:
        self.name = name

    @torch.no_grad()
    def on_step_end(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        weight = dict(model.named_parameters())[self.name].view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(1e9))


def test_a_frozen_weight_that_moves_is_told(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, batch=8, accumulation=1, freeze=["encoder"])
    trainer.add_callback(Slip("model.encoder.layers.0.fc1.weight"))
    with pytest.raises(UserError, match=r"1 others \(model.encoder.layers.0.fc1.weight\)"):
        trainer.train()


def test_what_is_unfrozen_may_move_and_the_rest_may_not(tmp_path: Path) -> None:
    common: dict[str, Any] = {"batch": 8, "accumulation": 1, "max_steps": -1, "num_train_epochs": 2}
    unfreezing = {"freeze": ["encoder"], "unfreeze": {1: ["encoder_layers"]}}
    make_trainer(tmp_path / "good", **common, **unfreezing).train()
    trainer = make_trainer(tmp_path / "bad", **common, **unfreezing)
    trainer.add_callback(Slip("model.encoder.conv1.weight"))
    with pytest.raises(UserError, match=r"model\.encoder\.conv1\.weight"):
        trainer.train()


def test_running_means_belong_to_frozen_norms() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    model[1].requires_grad_(False)
    assert frozen_tensors(model) == {
        f"1.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hold_frozen_statistics(model)
    model.train()(torch.randn(8, 2))
    after = model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "2.running_mean",
        "2.running_var",
        "2.num_batches_tracked",
    }
    model[1].requires_grad_(True)
    model.train()(torch.randn(8, 2))
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])


def test_positions_that_are_never_trained_are_checked() -> None:
    assert frozen_tensors(build_model()) == {"model.encoder.embed_positions.weight"}
