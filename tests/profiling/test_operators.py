"""Operators in groups, and what is slow without being one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_asr.profiling.operators import OUTSIDE, group_of, operator_table, split_step

NAMED = {
    "aten::addmm": "matrix products",
    "aten::linear": "matrix products",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
    "aten::_softmax": "attention",
    "aten::mkldnn_convolution": "convolution",
    "aten::native_layer_norm": "normalisation",
    "aten::gelu": "activation",
    "aten::copy_": "copies",
    "Memcpy HtoD (Pageable -> Device)": "copies",
    "aten::empty": "memory",
    "cudaDeviceSynchronize": "synchronisation",
    "aten::_local_scalar_dense": "synchronisation",
    "sm90_xmma_gemm_f32f32": "matrix products",
    "aten::argmax": "other operators",
}


@pytest.mark.parametrize("name", NAMED)
def test_groups(name: str) -> None:
    assert group_of(name) == NAMED[name]


def _sleep(module: nn.Module, inputs: Any, outputs: Any) -> None:
    time.sleep(0.05)


def test_a_sleep_in_a_hook_is_found(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
    quick = operator_table(lambda: model(torch.zeros(2, 8)), model)
    model[1].register_forward_hook(_sleep)
    slow = operator_table(lambda: model(torch.zeros(2, 8)), model, tmp_path / "trace.json")
    name, kind, share = slow.modules[0]
    assert (name, kind) == ("1", "GELU") and share > 0.8
    assert slow.groups[OUTSIDE] > 0.9 and slow.seconds > 0.05 > quick.seconds
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_shares_add_up_and_hooks_are_taken_off() -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU())
    table = operator_table(lambda: model(torch.zeros(2, 4, 100)), model)
    assert sum(table.groups.values()) == pytest.approx(1)
    assert {"convolution", "activation"} <= table.groups.keys()
    assert not model[0]._forward_hooks and not model[0]._forward_pre_hooks
    assert table.as_dict()["device_groups"] == {} or torch.cuda.is_available()


class SlowStep:
    """A step whose parts take what they are told to."""

    def load(self) -> None:
        time.sleep(0.01)

    def forward(self, batch: None) -> torch.Tensor:
        time.sleep(0.02)
        return torch.zeros(())

    def backward(self, loss: torch.Tensor) -> None:
        time.sleep(0.04)

    def optimise(self) -> None:
        """Take no time."""


def test_a_training_step_in_parts() -> None:
    found = split_step(SlowStep(), torch.device("cpu"), repeats=3)
    parts = [found[f"{name}_seconds"] for name in ("loader_wait", "forward", "backward", "optimiser")]
    assert found["n"] == 3 and parts[2] > parts[1] > parts[0] > parts[3]
    assert found["step_seconds"] >= 0.07
