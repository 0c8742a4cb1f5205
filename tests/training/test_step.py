"""What a training step must not do: wait for the GPU, or take other processes' cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import build_rows, make_trainer
from transformers import Seq2SeqTrainingArguments

from hf_asr.training.loader import EpochLoader


def test_the_default_optimiser_is_the_fused_one(tmp_path: Path) -> None:
    assert Seq2SeqTrainingArguments(output_dir=str(tmp_path)).optim == "adamw_torch_fused"
    trainer = make_trainer(tmp_path, batch=4, accumulation=1, optim="adamw_torch_fused", use_cpu=True)
    assert trainer.create_optimizer().defaults["fused"]


def threads(rows: list[Any]) -> int:
    return torch.get_num_threads()


def test_a_loader_worker_has_one_thread() -> None:
    assert set(EpochLoader([0, 1], num_workers=1, collate_fn=threads)) == {1}


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
