"""LoRA: what it trains, that merging keeps the logits, and what is refused."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from helpers.tiny_whisper import make_tiny_whisper
from torch.testing import assert_close
from transformers import WhisperForConditionalGeneration

from hf_asr.config.arguments import FreezeArguments, PeftArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY
from hf_asr.training.adapters import make_trainable, merged

LORA = PeftArguments(method="lora", r=4, alpha=8, dropout=0.0)


@pytest.fixture
def model(tmp_path: Path) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(make_tiny_whisper(tmp_path / "model"))


def logits(model: torch.nn.Module) -> torch.Tensor:
    torch.manual_seed(0)
    inputs = {"input_features": torch.randn(2, 80, 400), "decoder_input_ids": torch.arange(12).reshape(2, 6)}
    return model.eval()(**inputs).logits


def test_lora_trains_only_its_matrices(model: WhisperForConditionalGeneration) -> None:
    wrapped, report = make_trainable(model, FAMILY, FreezeArguments(), LORA, seed=1)
    trained = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert 0 < report.trainable < report.total


def test_merging_gives_a_stock_model_with_the_same_logits(model: WhisperForConditionalGeneration) -> None:
    wrapped, _ = make_trainable(model, FAMILY, FreezeArguments(), LORA, seed=1)
    before = logits(wrapped)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted = logits(wrapped)
    stock = merged(wrapped)
    assert type(stock) is WhisperForConditionalGeneration and not isinstance(stock, peft.PeftModel)
    assert not any("lora" in name for name in stock.state_dict())
    assert (adapted - before).abs().max() > 1e-3
    assert_close(logits(stock), adapted, atol=1e-5, rtol=1e-5)


def test_new_matrices_are_a_function_of_the_seed(tmp_path: Path) -> None:
    folder = make_tiny_whisper(tmp_path / "model")
    states = []
    for seed in (1, 1, 2):
        torch.randn(7)  # moves the global generator between the runs
        model = WhisperForConditionalGeneration.from_pretrained(folder)
        wrapped, _ = make_trainable(model, FAMILY, FreezeArguments(), LORA, seed=seed)
        states.append(torch.cat([p.flatten() for n, p in wrapped.named_parameters() if "lora_A" in n]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("freeze", "adapter", "part"),
    [
        (FreezeArguments(groups=["encoder"]), LORA, "either freeze or peft"),
        (FreezeArguments(), PeftArguments(method="lora", target_modules=["no_such_module"]), "no_such_module"),
    ],
)
def test_refusals(
    model: WhisperForConditionalGeneration, freeze: FreezeArguments, adapter: PeftArguments, part: str
) -> None:
    with pytest.raises(UserError, match=part):
        make_trainable(model, FAMILY, freeze, adapter, seed=1)
