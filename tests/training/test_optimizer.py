"""Parameter groups: no decay on norms and biases, rates by group, and which optimisers run here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import build_model, logged, make_trainer

from hf_asr.config.arguments import FreezeArguments, PeftArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY
from hf_asr.training.adapters import make_trainable


def decays(trainer: Any) -> dict[str, float]:
    """Return each trained parameter's weight decay."""
    trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = trainer.optimizer.param_groups
    return {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}


@pytest.mark.parametrize("rates", [None, {"encoder": 0.5}], ids=["one rate", "two rates"])
def test_only_matrices_decay(tmp_path: Path, rates: dict[str, float] | None) -> None:
    trainer = make_trainer(tmp_path, batch=4, accumulation=1, weight_decay=0.1, learning_rates=rates)
    found = decays(trainer)
    without = {name for name, decay in found.items() if not decay}
    assert without == {name for name in found if name.endswith("bias") or "layer_norm" in name}
    assert set(found) == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}


def test_dora_magnitudes_do_not_decay(tmp_path: Path) -> None:
    adapter = PeftArguments(method="dora", r=2, alpha=4, dropout=0.0)
    model, _ = make_trainable(build_model(), FAMILY, FreezeArguments(), adapter, seed=1)
    found = decays(make_trainer(tmp_path, batch=4, accumulation=1, weight_decay=0.1, model=model))
    assert (
        {name for name, decay in found.items() if not decay} == {name for name in found if "magnitude" in name} != set()
    )


def test_rates_by_group_hold_for_adapters_too(tmp_path: Path) -> None:
    adapter = PeftArguments(method="lora", r=2, alpha=4, dropout=0.0)
    model, _ = make_trainable(build_model(), FAMILY, FreezeArguments(), adapter, seed=1)
    trainer = make_trainer(tmp_path, batch=4, accumulation=1, model=model, learning_rates={"encoder": 0.5})
    trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    assert {name for name, rate in rates.items() if rate == 0.5} == {
        name for name in rates if ".encoder.layers" in name
    }
    assert set(rates.values()) == {0.1, 0.5}


@pytest.mark.parametrize(
    "optim",
    [
        "adamw_torch",
        "adamw_torch_fused",
        "adafactor",
        "adamw_bnb_8bit",
        "adamw_8bit",
        "paged_adamw_8bit",
        "paged_adamw_32bit",
        "lion_8bit",
        "ademamix_8bit",
    ],
)
@pytest.mark.parametrize("unfreeze", [None, {1: ["encoder"]}], ids=["all", "unfreezing"])
@pytest.mark.filterwarnings("ignore:.*aged.*")
def test_optimisers_run_on_a_cpu(tmp_path: Path, optim: str, unfreeze: dict[int, list[str]] | None) -> None:
    frozen: dict[str, Any] = {"freeze": ["encoder"], "unfreeze": unfreeze} if unfreeze else {}
    trainer = make_trainer(
        tmp_path, batch=8, accumulation=1, optim=optim, learning_rate=1e-3, max_steps=4, num_train_epochs=2, **frozen
    )
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert all(math.isfinite(loss) for loss, _ in logged(trainer)) and len(logged(trainer)) == 4
    after = trainer.model.state_dict()
    assert not torch.equal(before["model.encoder.conv1.weight"], after["model.encoder.conv1.weight"])


def test_an_optimiser_with_groups_of_its_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, batch=8, accumulation=1, learning_rates={"encoder": 0.5})
    monkeypatch.setattr(trainer, "get_optimizer_cls_and_kwargs", lambda *args: (torch.optim.SGD, {"params": []}))
    with pytest.raises(UserError, match="takes parameter groups"):
        trainer.create_optimizer()
