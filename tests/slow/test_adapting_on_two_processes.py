"""Unfreezing, averaging and adapters on two processes: the losses and weights of one with a batch twice as large."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.processes import history, launch
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper
from safetensors.torch import load_file
from torch.testing import assert_close

pytestmark = pytest.mark.slow
# Epoch 0 without the encoder, epoch 1 with its layers, epoch 2 with the convolutions too.
UNFREEZING = ["freeze.groups=[encoder]", "freeze.unfreeze={1: [encoder_layers], 2: [feature_encoder]}"]
ADALORA = ["peft.method=adalora", "peft.r=2", "peft.alpha=4", "peft.dropout=0", "training.learning_rate=0.01"]
WAYS = {
    "unfreezing": [*UNFREEZING, "training.ema=0.9", "freeze.learning_rates={encoder_layers: 1e-4}"],
    "unfreezing with checkpointing": [*UNFREEZING, "training.activation_checkpointing=true"],
    "adalora": ADALORA,
}


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one(project_root: Path, tmp_path: Path, way: str) -> None:
    model = make_tiny_whisper(tmp_path / "model", d_model=32)
    manifest = make_tiny_corpus(tmp_path / "corpus", train=12, validation=4, test=4)
    yaml = tiny_yaml(tmp_path, model, manifest, num_train_epochs=3, warmup_steps=1, optim="sgd", learning_rate=0.05)
    for processes in (1, 2):
        batch = f"training.per_device_train_batch_size={4 // processes}"
        name = f"experiment.name=on{processes}"
        done = launch(project_root, processes, yaml, name, batch, "evaluation.baseline=false", *WAYS[way])
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (tmp_path / "runs" / name for name in ("on1", "on2"))
    for key in ("loss", "grad_norm", "eval_loss"):
        assert history(two, key) == pytest.approx(history(one, key), rel=1e-4)
    weights = [load_file(run / "best_checkpoint" / "model.safetensors") for run in (one, two)]
    for name, value in weights[0].items():
        assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5)
