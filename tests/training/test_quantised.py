"""8-bit and 4-bit bases: loading, adapters on top under the Trainer, and merging into a stock float32 model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from helpers.tiny_training import FRAMES, MELS, PAD, START, build_model, build_rows, logged, make_trainer
from torch.testing import assert_close
from transformers import WhisperConfig, WhisperForConditionalGeneration

from hf_asr.config.arguments import FreezeArguments, ModelArguments, PeftArguments
from hf_asr.errors import UserError
from hf_asr.models.checkpoints import compute_dtype, finish_random, load_weights
from hf_asr.models.whisper import FAMILY
from hf_asr.training.adapters import (
    dequantised,
    is_quantised,
    load_adapters,
    make_trainable,
    merged,
    save_adapter,
    set_aside,
)
from hf_asr.training.checkpoints import newest_checkpoint

KINDS = {
    "8bit": ModelArguments(name_or_path="", quantization="8bit"),
    "4bit": ModelArguments(name_or_path="", quantization="4bit", compute_dtype="float32"),
    "4bit single": ModelArguments(name_or_path="", quantization="4bit", compute_dtype="float32", double_quant=False),
    "4bit bfloat16": ModelArguments(name_or_path="", quantization="4bit", compute_dtype="bfloat16"),
}
# Greatest difference of logits between a quantised base with its adapter and the merged float32 model; see the
# docstring of hf_asr.training.adapters. What rounds activations is 8-bit arithmetic and bfloat16.
TOLERANCES = {"8bit": 3e-2, "4bit": 1e-5, "4bit single": 1e-5, "4bit bfloat16": 3e-2}
COMMON: dict[str, Any] = {
    "rows": build_rows(12),
    "batch": 4,
    "accumulation": 1,
    "max_steps": 6,
    "optim": "adamw_torch",
    "learning_rate": 0.02,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 20,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint wide enough for blocks of 64 weights, with logits of about 1."""
    config = build_model().config
    wide = WhisperConfig(**(config.to_dict() | {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}))
    path = tmp_path_factory.mktemp("base")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        WhisperForConditionalGeneration(wide).save_pretrained(path)
    return path


def load(folder: Path, kind: str) -> Any:
    model = replace(KINDS[kind], name_or_path=str(folder))
    return load_weights(WhisperForConditionalGeneration, model, WhisperConfig.from_pretrained(folder))


def adapted(folder: Path, kind: str, method: str = "lora") -> Any:
    adapter = PeftArguments(method=method, r=4, alpha=8, dropout=0.0, target_modules=["q_proj", "v_proj", "fc1"])
    return make_trainable(load(folder, kind), FAMILY, FreezeArguments(), adapter, seed=1)[0]


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    features = torch.randn(2, MELS, FRAMES, generator=torch.Generator().manual_seed(0))
    result: torch.Tensor = model.eval()(input_features=features, decoder_input_ids=torch.arange(12).view(2, 6)).logits
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_only_linear_layers_are_quantised(folder: Path, kind: str) -> None:
    model, plain = load(folder, kind), WhisperForConditionalGeneration.from_pretrained(folder)
    kinds = Linear8bitLt if kind == "8bit" else Linear4bit
    found = {name for name, module in model.named_modules() if isinstance(module, kinds)}
    linear = {name for name, module in plain.named_modules() if isinstance(module, torch.nn.Linear)}
    assert found == linear - {"proj_out"}
    rest = {p.dtype for name, p in model.named_parameters() if name.rpartition(".")[0] not in found}
    assert rest == {torch.float32}
    assert_close(logits(model), logits(plain), atol=0.15, rtol=0)
    assert not torch.equal(logits(model), logits(plain))


def test_a_random_model_is_quantised_through_a_folder(folder: Path) -> None:
    built = WhisperForConditionalGeneration.from_pretrained(folder)
    model = finish_random(built, replace(KINDS["4bit"], name_or_path="config:tiny"))
    assert is_quantised(model) and model.config.name_or_path == "config:tiny"
    assert_close(logits(model), logits(load(folder, "4bit")))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_close_to_what_was_trained(folder: Path, tmp_path: Path, kind: str) -> None:
    trainer = make_trainer(tmp_path, **COMMON, model=adapted(folder, kind))
    trainer.train()
    losses = [loss for loss, _ in logged(trainer)]
    assert losses[-1] < losses[0] - 0.05
    before = logits(trainer.model)
    stock = merged(trainer.model)
    assert type(stock) is WhisperForConditionalGeneration and not is_quantised(stock)
    difference = (logits(stock) - before).abs().max().item()
    assert difference <= TOLERANCES[kind], difference
    assert (before - logits(load(folder, kind))).abs().max() > 0.1  # training moved more than merging


@pytest.mark.parametrize(("kind", "method"), [("4bit", "dora"), ("4bit", "adalora"), ("8bit", "adalora")])
def test_other_adapters_merge_too(folder: Path, tmp_path: Path, kind: str, method: str) -> None:
    trainer = make_trainer(tmp_path, **COMMON, model=adapted(folder, kind, method))
    trainer.train()
    before = logits(trainer.model)
    assert_close(logits(merged(trainer.model)), before, atol=TOLERANCES[kind], rtol=0)


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_the_adapter_comes_back_onto_its_base(folder: Path, tmp_path: Path, kind: str) -> None:
    trainer = make_trainer(tmp_path, **COMMON, model=adapted(folder, kind))
    trainer.train()
    expected = logits(trainer.model)
    save_adapter(trainer.model, tmp_path / "adapter")
    again = load_adapters(load(folder, kind), {"run": tmp_path / "adapter"})
    assert_close(logits(again), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_a_resumed_training_is_the_same(folder: Path, tmp_path: Path, kind: str) -> None:
    whole = make_trainer(tmp_path, **COMMON, model=adapted(folder, kind))
    whole.train()
    for step in range(4, 7):
        (tmp_path / "checkpoints" / f"checkpoint-{step}" / "adapter_model.safetensors").unlink()
    resumed = make_trainer(tmp_path, **COMMON, model=adapted(folder, kind))
    resumed.train(newest_checkpoint(tmp_path / "checkpoints"))
    assert logged(resumed) == logged(whole)


READ = """
import sys
sys.modules["bitsandbytes"] = None  # any import of it fails
from transformers import WhisperForConditionalGeneration
model = WhisperForConditionalGeneration.from_pretrained(sys.argv[1])
print(sorted({str(p.dtype) for p in model.parameters()}), model.num_parameters())
"""


@pytest.mark.parametrize("merge", [True, False], ids=["merged", "beside"])
def test_what_is_saved_needs_no_bitsandbytes(folder: Path, tmp_path: Path, merge: bool) -> None:
    model = adapted(folder, "4bit")
    stock = merged(model) if merge else set_aside(model, tmp_path / "adapter")
    assert stock.generation_config.decoder_start_token_id == START and stock.config.pad_token_id == PAD
    stock.save_pretrained(tmp_path / "stock")
    assert "quantization_config" not in json.loads((tmp_path / "stock" / "config.json").read_text())
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "stock")], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("['torch.float32']"), done.stderr[-2000:]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file() is not merge


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "after a forward"])
def test_dequantised_weights_are_the_rounded_ones(folder: Path, kind: str, used: bool) -> None:
    model, plain = load(folder, kind), WhisperForConditionalGeneration.from_pretrained(folder)
    if used:
        logits(model)
    weights, exact = dequantised(model).state_dict(), plain.state_dict()
    assert set(weights) == set(exact)
    for name, value in exact.items():
        quantised = ".layers." in name and name.endswith("weight") and value.ndim == 2
        # Half of the widest gap: 1 / 127 of a row's largest in 8 bits, 0.3 of a block's in NormalFloat.
        gap = value.abs().max(dim=-1, keepdim=True).values * (1.2 / 127) if kind == "8bit" else 0.31 * value.abs().max()
        assert ((weights[name] - value).abs() <= (gap / 2 if quantised else 0)).all(), name


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_checkpointing_gives_the_same_training(folder: Path, tmp_path: Path, kind: str) -> None:
    runs = []
    for name, changes in (("plain", {}), ("checkpointed", {"activation_checkpointing": True})):
        options = {"activation_checkpointing_kwargs": {"use_reentrant": False}} if changes else {}
        trainer = make_trainer(
            tmp_path / name, **(COMMON | {"max_steps": 3}), **changes, **options, model=adapted(folder, kind)
        )
        trainer.train()
        runs.append(torch.tensor(logged(trainer)))
    assert_close(runs[1], runs[0], rtol=1e-4, atol=0)


def test_full_fine_tuning_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"peft\.method=lora"):
        make_trainable(load(folder, "8bit"), FAMILY, FreezeArguments(), PeftArguments(), seed=1)


def test_dora_on_eight_bits_is_refused_on_a_cpu(folder: Path) -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        adapted(folder, "8bit", "dora")


@pytest.mark.parametrize(("wanted", "expected"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_compute_dtype(wanted: str, expected: torch.dtype) -> None:
    assert compute_dtype(ModelArguments(name_or_path="", compute_dtype=wanted)) == expected
    if not torch.cuda.is_available():
        assert compute_dtype(ModelArguments(name_or_path="")) == torch.float32
