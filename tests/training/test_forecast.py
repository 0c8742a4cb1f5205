"""The forecast: steps, memory from what autograd keeps, and that measuring changes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_training import END, FRAMES, MELS, PAD, START, build_model, build_rows

from hf_asr.features.collate import Seq2SeqCollator, WindowPadder
from hf_asr.models.losses import TOKENS
from hf_asr.training.forecast import SavedBytes, make_forecast, measure_step, num_steps, show_labels

TRAINING = SimpleNamespace(
    max_steps=-1,
    num_train_epochs=3,
    per_device_train_batch_size=2,
    gradient_accumulation_steps=2,
    world_size=1,
    device=torch.device("cpu"),
    mixed_precision="no",
    save_total_limit=2,
)


@pytest.mark.parametrize(
    ("max_steps", "examples", "expected"), [(-1, 8, 6), (-1, 9, 9), (-1, 1, 3), (5, 8, 5), (5, None, 5)]
)
def test_steps(max_steps: int, examples: int | None, expected: int) -> None:
    assert num_steps(SimpleNamespace(**{**vars(TRAINING), "max_steps": max_steps}), examples) == expected


def test_saved_bytes_counts_a_storage_once_and_no_parameter() -> None:
    layer = torch.nn.Linear(4, 4, bias=False)
    saved = SavedBytes(layer)
    inputs = torch.randn(3, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
        (layer(inputs) + layer(inputs)).sum()
    assert saved.total == inputs.untyped_storage().nbytes()


def test_measuring_changes_no_weight_and_leaves_no_gradient() -> None:
    model = build_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = Seq2SeqCollator(WindowPadder(FRAMES, MELS), START, PAD)(build_rows()[:2])
    seconds, kept = measure_step(model, batch, TRAINING, TOKENS)
    assert seconds > 0 and kept > batch["input_features"].nbytes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_parts_need_no_gradients_and_states() -> None:
    batch = Seq2SeqCollator(WindowPadder(FRAMES, MELS), START, PAD)(build_rows()[:2])
    whole, frozen = build_model(), build_model()
    frozen.model.encoder.requires_grad_(False)
    forecasts = [
        make_forecast(model, batch, TRAINING, TOKENS, num_examples=8, cache_bytes=0) for model in (whole, frozen)
    ]
    assert forecasts[1].weight_bytes < forecasts[0].weight_bytes
    assert forecasts[1].activation_bytes < forecasts[0].activation_bytes
    assert "6" in str(forecasts[0].steps)


def test_labels_are_shown_with_their_reference(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": "a", "text": "[bold]so", "labels": [1, 2, END], "error": ""},
        {"id": "b", "text": "no", "labels": [], "error": "broken_audio: no data"},
    ]
    show_labels(rows, lambda ids: "".join(map(str, ids)))
    shown = capsys.readouterr().out
    assert "[bold]so" in shown and f"12{END}" in shown and "broken_audio: no data" in shown
