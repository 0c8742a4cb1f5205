"""``training.chunked_loss`` is a switch: the trainings with it and without it are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_training import logged, make_trainer
from torch.testing import assert_close


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_same_training_with_it_and_without_it(tmp_path: Path, smoothing: float) -> None:
    weights, logs, losses = [], [], []
    for chunked in (True, False):
        trainer = make_trainer(
            tmp_path / str(chunked), batch=2, accumulation=4, chunked_loss=chunked, label_smoothing_factor=smoothing
        )
        assert (trainer.chunked_head == "proj_out") == chunked
        trainer.train()
        weights.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        logs.append(logged(trainer))
        losses.append(trainer.validation_loss())
    assert_close(torch.tensor(logs[0]), torch.tensor(logs[1]), rtol=1e-5, atol=1e-6)
    assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_what_is_compiled_takes_the_plain_way(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, batch=2, accumulation=1, torch_compile=True)
    assert trainer.chunked_head is None
