"""Merged checkpoints: the logits of the model with its adapters, read by plain transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from helpers.exported import open_folder, open_whisper, random_features, texts
from helpers.tiny_whisper import make_tiny_whisper
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import BitsAndBytesConfig, WhisperForConditionalGeneration

from hf_asr.config.arguments import PeftArguments
from hf_asr.errors import UserError
from hf_asr.export.formats import FORMATS, check_folder, write_export
from hf_asr.export.source import Source, find_model
from hf_asr.models import FAMILIES
from hf_asr.training.adapters import save_adapter, set_aside, wrap_lora

IDS = torch.arange(1, 7)[None].repeat(2, 1)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_features=random_features(2), decoder_input_ids=IDS).logits.float()


def adapted(base: Path, method: str = "lora", **options: Any) -> Any:
    """Return a model with adapters whose weights are not 0."""
    model = WhisperForConditionalGeneration.from_pretrained(base, **options)
    wrapped = wrap_lora(model, FAMILIES["whisper"], PeftArguments(method=method, r=4, alpha=8))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return wrapped.eval()


def merged(source: Source, folder: Path, quantization: str = "float32") -> Any:
    """Export and read back with transformers alone."""
    write_export(source, FORMATS["merged"], folder, quantization)
    assert not [path for path in folder.iterdir() if "adapter" in path.name]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    return WhisperForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("base") / "model", init_std=0.2)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_folder_and_its_base(base: Path, tmp_path: Path, method: str) -> None:
    wrapped = adapted(base, method)
    save_adapter(wrapped, tmp_path / "adapter")
    expected = logits(wrapped)
    assert (expected - logits(wrapped.get_base_model().eval())).abs().max() < 1e-6  # adapters are inside it
    source = open_folder(tmp_path / "adapter", base=str(base))
    assert_close(logits(merged(source, tmp_path / "out")), expected, atol=1e-5, rtol=1e-5)
    with wrapped.disable_adapter():
        assert (logits(wrapped) - expected).abs().max() > 0.01


def test_the_base_that_the_adapter_names(base: Path, tmp_path: Path) -> None:
    wrapped = adapted(base)
    save_adapter(wrapped, tmp_path / "adapter")
    named = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(base)
    assert find_model(tmp_path / "adapter").model.name_or_path == str(base)


def test_a_checkpoint_with_its_adapters_beside_it(base: Path, tmp_path: Path) -> None:
    wrapped = adapted(base)
    expected = logits(wrapped)
    folder = tmp_path / "run" / "best_checkpoint"
    folder.mkdir(parents=True)
    open_whisper(base).processor.save_pretrained(folder)
    set_aside(wrapped, folder).save_pretrained(folder)
    source = open_folder(tmp_path / "run")
    assert isinstance(source.model, peft.PeftModel)
    assert_close(logits(source.model), expected, atol=1e-5, rtol=1e-5)
    assert_close(logits(merged(source, tmp_path / "out")), expected, atol=1e-5, rtol=1e-5)


def test_a_four_bit_base_is_dequantised(tmp_path: Path) -> None:
    wide = make_tiny_whisper(tmp_path / "model", d_model=64, encoder_ffn_dim=64, decoder_ffn_dim=64)
    bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    quantised = WhisperForConditionalGeneration.from_pretrained(wide, quantization_config=bits)
    folder = tmp_path / "four"
    quantised.save_pretrained(folder)
    open_whisper(wide).processor.save_pretrained(folder)
    source = open_folder(folder)
    expected = logits(source.model)
    assert_close(logits(merged(source, tmp_path / "out")), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("quantization", ["float16", "bfloat16"])
def test_half_precision_is_stored(base: Path, tmp_path: Path, quantization: str) -> None:
    source = open_whisper(base)
    merged(source, tmp_path / "out", quantization)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {getattr(torch, quantization)}


def test_the_texts_are_the_originals(tmp_path: Path) -> None:
    source = open_whisper(tmp_path / "model")
    ours = texts(source, source.model, random_features(6))
    write_export(open_whisper(tmp_path / "model"), FORMATS["merged"], tmp_path / "out", "float32")
    assert texts(source, FORMATS["merged"].open(tmp_path / "out", source), random_features(6)) == ours


def test_nothing_is_left_of_an_export_that_failed(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_whisper(base)
    monkeypatch.setattr(type(source.processor), "save_pretrained", _full)
    with pytest.raises(OSError, match="no room"):
        write_export(source, FORMATS["merged"], tmp_path / "out", "float32")
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(UserError, match=r"model\.bin"):
        check_folder(tmp_path)
    check_folder(tmp_path / "new" / "folder")


def _full(self: Any, folder: Path) -> None:
    raise OSError("no room")
