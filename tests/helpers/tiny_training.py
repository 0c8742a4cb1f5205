"""A trainer over random features: batches and losses without audio, a tokenizer or a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import Seq2SeqTrainingArguments, WhisperConfig, WhisperForConditionalGeneration

from hf_asr.config.arguments import FreezeArguments
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.collate import Seq2SeqCollator, WindowPadder
from hf_asr.inference.generate import Conditions
from hf_asr.models.whisper import FAMILY
from hf_asr.training.callbacks import SampleLog
from hf_asr.training.freezing import apply_freezing
from hf_asr.training.trainer import SpeechTrainer
from hf_asr.training.unfreezing import unfreezing_plan
from hf_asr.utterance import Drops

FRAMES, MELS, VOCABULARY, START, PAD, END = 40, 8, 60, 57, 58, 59


def build_rows(number: int = 16) -> list[dict[str, Any]]:
    """Return encoded rows with 3, 5, 7 ... label tokens and random features."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(number):
        labels = [*generator.integers(0, START, 2 + 2 * (index % 8)).tolist(), END]
        features = generator.standard_normal((FRAMES, MELS)).astype(np.float32)
        rows.append(
            {
                "id": f"clip{index}",
                "text": "x",
                "speaker": "",
                "duration": 0.4,
                "input_features": features,
                "labels": labels,
                "error": "",
            }
        )
    return rows


def build_model(dropout: float = 0.0) -> WhisperForConditionalGeneration:
    """Return the same random Whisper at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=VOCABULARY,
                num_mel_bins=MELS,
                d_model=16,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                max_source_positions=FRAMES // 2,
                max_target_positions=32,
                decoder_start_token_id=START,
                bos_token_id=START,
                pad_token_id=PAD,
                eos_token_id=END,
                dropout=dropout,
                suppress_tokens=[],
                begin_suppress_tokens=[],
            )
        )


def make_trainer(
    run_dir: Path,
    *,
    batch: int,
    accumulation: int,
    rows: list[dict[str, Any]] | None = None,
    dropout: float = 0.0,
    log_samples: bool = False,
    freeze: list[str] | None = None,
    unfreeze: dict[int, list[str]] | None = None,
    ema: float | str = "off",
    model: Any = None,
    learning_rates: dict[str, float] | None = None,
    chunked_loss: bool = True,
    **changes: Any,
) -> SpeechTrainer:
    """Return a trainer of two SGD steps over 16 clips in their order; ``changes`` are training arguments."""
    run_dir.mkdir(parents=True, exist_ok=True)
    frozen = FreezeArguments(groups=freeze or [], unfreeze=unfreeze or {})
    plan: dict[int, list[str]] = {}
    if model is None:
        model = build_model(dropout)
        plan = unfreezing_plan(model, FAMILY, frozen)
        apply_freezing(model, FAMILY, frozen)
    values: dict[str, Any] = {
        "output_dir": str(run_dir / "checkpoints"),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "max_steps": 2,
        "num_train_epochs": 1,
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 1e9,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "train_sampling_strategy": "sequential",
    }
    rows = rows or build_rows()
    table = Dataset.from_dict({"duration": [row.get("duration", 0.4) for row in rows]})
    split = PreparedSplit(name="train", rows=rows, table=table, drops=Drops())
    sample_log = SampleLog(run_dir) if log_samples else None
    return SpeechTrainer(
        family=FAMILY,
        train=split,
        validation=split,
        conditions=Conditions(window="full", dtype="float32", batch_size=batch, generation={}),
        normalizer="basic",
        learning_rates=learning_rates,
        chunked_loss=chunked_loss,
        unfreeze=plan,
        ema=ema,
        sample_log=sample_log,
        model=model,
        args=Seq2SeqTrainingArguments(**(values | changes)),
        data_collator=Seq2SeqCollator(WindowPadder(FRAMES, MELS), START, PAD),
        callbacks=[sample_log] if sample_log else [],
    )


def logged(trainer: SpeechTrainer) -> list[tuple[float, float]]:
    """Return (loss, gradient norm) of every logged step."""
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [(entry["loss"], entry["grad_norm"]) for entry in history]
