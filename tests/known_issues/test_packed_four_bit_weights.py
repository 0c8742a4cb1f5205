"""bitsandbytes 0.50 packs 4-bit weights anew at the first decoding on a CPU: they then were other weights."""

from __future__ import annotations

from pathlib import Path

import torch
from helpers.tiny_whisper import make_tiny_whisper
from torch.testing import assert_close
from transformers import WhisperConfig, WhisperForConditionalGeneration

from hf_asr.config.arguments import ModelArguments
from hf_asr.models.checkpoints import load_weights
from hf_asr.training.adapters import dequantised
from hf_asr.training.frozen_check import checksums, frozen_tensors


def test_decoding_leaves_them_alone(tmp_path: Path) -> None:
    folder = make_tiny_whisper(tmp_path, d_model=64, encoder_ffn_dim=128, decoder_ffn_dim=128)
    arguments = ModelArguments(name_or_path=str(folder), quantization="4bit")
    model = load_weights(WhisperForConditionalGeneration, arguments, WhisperConfig.from_pretrained(folder))
    model.requires_grad_(False)
    names = frozen_tensors(model)
    before, weights = checksums(model, names), dequantised(model).state_dict()
    with torch.no_grad():
        model.eval()(input_features=torch.zeros(1, 80, 400), decoder_input_ids=torch.tensor([[1]]))
    assert checksums(model, names) == before
    for name, value in dequantised(model).state_dict().items():
        assert_close(value, weights[name], rtol=0, atol=0)
