"""Checkpoints that are damaged, mixed up or stored in half precision: a message, or float32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_whisper import make_tiny_whisper, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, WhisperForConditionalGeneration

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("whisper"))


def load(folder: Path, language: str = "ru", **model: Any) -> PreTrainedModel:
    data = DataArguments(language=language)
    arguments = Arguments(ExperimentArguments("x", seed=1), ModelArguments(str(folder), **model), data)
    return FAMILY.load_model(arguments, FAMILY.load_processor(arguments, None))


@pytest.mark.parametrize(
    ("asked", "expected"), [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_half_precision_checkpoints_train_in_float32(
    multilingual: Path, tmp_path: Path, asked: str, expected: torch.dtype
) -> None:
    shutil.copytree(multilingual, tmp_path / "half")
    WhisperForConditionalGeneration.from_pretrained(multilingual, dtype=torch.float16).save_pretrained(
        tmp_path / "half"
    )
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert load(tmp_path / "half", dtype=asked).dtype == expected


def drop(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:5000])


def without_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.decoder.layers.0.fc1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def config_with(**values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def holding(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def only_pickled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("config.json"), "config.json"),
        (drop("model.safetensors"), "safetensors"),
        (drop("tokenizer.json"), "tokenizer"),
        (drop("processor_config.json"), "feature extractor"),
        (cut("model.safetensors"), "safetensors"),
        (cut("tokenizer.json"), "tokenizer"),
        (without_a_weight, r"1 missing \(model.decoder.layers.0.fc1.weight\)"),
        (config_with(d_model=32), "safetensors weights"),
        (config_with(d_model="wide"), "'d_model'|Whisper config.json"),
        (config_with(encoder_attention_heads=3), "divisible by num_heads"),
        (config_with(activation_function="none"), "'none'"),
        (holding("config.json", "[1]"), "config.json"),
        (holding("tokenizer_config.json", "{broken"), "tokenizer"),
        (holding("processor_config.json", "[1]"), "feature extractor"),
        (only_pickled, "safetensors"),
    ],
)
def test_damaged_checkpoints(
    multilingual: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    shutil.copytree(multilingual, tmp_path / "damaged")
    damage(tmp_path / "damaged")
    with pytest.raises(UserError, match=f"model.name_or_path: expected .*{message}"):
        load(tmp_path / "damaged")


def test_a_tokenizer_of_another_model_is_refused(multilingual: Path, tmp_path: Path) -> None:
    tiny_tokenizer(("en", "yue")).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="expected ids below the model's 470 entries"):
        load(multilingual, tokenizer_name_or_path=str(tmp_path))


def test_a_stand_in_the_tokenizer_lacks(multilingual: Path) -> None:
    with pytest.raises(UserError, match=r"model.language_token: .*\(en, zh, de, es, ru\), found 'tr'"):
        load(multilingual, "sah", language_token="tr")


def test_an_attention_that_is_not_installed(multilingual: Path) -> None:
    with pytest.raises(UserError, match=r"model.attn_implementation=sdpa"):
        load(multilingual, attn_implementation="flash_attention_2")
