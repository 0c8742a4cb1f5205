"""GPT-2's Conv1D layers keep (inputs, outputs): dequantised square ones came out transposed, others not at all."""

from __future__ import annotations

import pytest
import torch
from transformers import BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel

from hf_asr.training.adapters import dequantised


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_the_same_logits(bits: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).eval().save_pretrained(folder)
    quantised = BitsAndBytesConfig(load_in_4bit=bits == "4bit", load_in_8bit=bits == "8bit")
    model = GPT2LMHeadModel.from_pretrained(folder, quantization_config=quantised, dtype=torch.float32).eval()
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        found = dequantised(model)(tokens).logits  # before a forward, in which some processors get weights repacked
        expected = model(tokens).logits
    torch.testing.assert_close(found, expected.float(), atol=2e-2, rtol=2e-2)
