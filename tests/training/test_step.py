"""What a training step must not do: wait for the GPU, or take other processes' cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.thin_clips import SECONDS, pair, planned, prompts, windows
from helpers.tiny_training import build_rows, make_trainer
from helpers.tiny_whisper import make_tiny_whisper
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Seq2SeqTrainingArguments

from hf_asr.training.loader import EpochLoader

# All but the math kernel, which holds every logit. A CPU's flash kernel takes an additive mask, a GPU's does not.
FUSED = {
    "cpu": [SDPBackend.FLASH_ATTENTION],
    "cuda": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION],
}


def test_the_default_optimiser_is_the_fused_one(tmp_path: Path) -> None:
    assert Seq2SeqTrainingArguments(output_dir=str(tmp_path)).optim == "adamw_torch_fused"
    trainer = make_trainer(tmp_path, batch=4, accumulation=1, optim="adamw_torch_fused", use_cpu=True)
    assert trainer.create_optimizer().defaults["fused"]


def threads(rows: list[Any]) -> int:
    return torch.get_num_threads()


def test_a_loader_worker_has_one_thread() -> None:
    assert set(EpochLoader([0, 1], num_workers=1, collate_fn=threads)) == {1}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("step"), chunk_length=SECONDS)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("window", ["full", "thinned"])
def test_no_attention_falls_back_to_the_slow_kernel(whisper: Path, window: str, autocast: bool) -> None:
    """With a fused kernel alone allowed, torch ends the step where none takes mask, type or shape."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stock, thin = pair(whisper, attn_implementation="sdpa")
    whole = windows()
    batch = {"input_features": whole} if window == "full" else planned(whole, stride=10)
    model = (stock if window == "full" else thin).train().to(device)
    inputs = {name: value.to(device) for name, value in batch.items()}
    with sdpa_kernel(FUSED[device]), torch.autocast(device, torch.bfloat16, enabled=autocast):
        model(**inputs, decoder_input_ids=prompts().to(device)).logits.float().sum().backward()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_the_gpu(tmp_path: Path) -> None:
    """Forward, loss, backward, clipping and the optimiser; what is logged is read every logging_steps."""
    trainer = make_trainer(tmp_path, batch=4, accumulation=1, use_cpu=False, optim="adamw_torch_fused")
    trainer.create_optimizer()
    batch = trainer.data_collator(build_rows()[:4])
    inputs = trainer._prepare_inputs({name: value for name, value in batch.items() if name not in ("ids", "skipped")})
    model, items = trainer.model.train(), torch.tensor(20, device=trainer.args.device)
    for number in range(3):
        torch.cuda.set_sync_debug_mode("error" if number else "default")
        try:
            trainer.compute_loss(model, inputs, num_items_in_batch=items).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
        finally:
            torch.cuda.set_sync_debug_mode("default")
