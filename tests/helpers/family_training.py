"""Any family on encoded rows: its parts loaded as a recipe does, clips of tones, and a trainer around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from helpers.clips import row_of
from transformers import Seq2SeqTrainingArguments

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.extract import ClipEncoder
from hf_asr.inference.generate import Conditions
from hf_asr.models.family import ModelFamily
from hf_asr.training.trainer import SpeechTrainer
from hf_asr.utterance import Drops

PITCHES = {letter: 200.0 * 1.1**place for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}


def configuration(folder: Path | str, *, data: Mapping[str, Any] | None = None, **model: Any) -> Arguments:
    """Return the configuration of a model folder, features stored as float32."""
    arguments = Arguments(
        ExperimentArguments("test"), ModelArguments(str(folder), **model), DataArguments(**(data or {}))
    )
    arguments.features.store_dtype = "float32"
    return arguments


def load(family: ModelFamily, arguments: Arguments) -> tuple[Any, Any, ClipEncoder]:
    """Return processor, model and encoder."""
    processor = family.load_processor(arguments, None)
    model = family.load_model(arguments, processor)
    return processor, model, family.make_encoder(processor, model.config, arguments)


def spoken(text: str, seconds_a_letter: float = 0.15) -> np.ndarray:
    """Return (T,) float32: a tone for each letter, faint noise for anything else."""
    times = np.arange(round(seconds_a_letter * SAMPLE_RATE)) / SAMPLE_RATE
    faint = 0.001 * np.random.default_rng(0).standard_normal(len(times))
    parts = [faint + (0.4 * np.sin(2 * np.pi * PITCHES[mark] * times) if mark in PITCHES else 0) for mark in text]
    return np.concatenate(parts).astype(np.float32)


def encoded(encoder: ClipEncoder, texts: Sequence[str], **options: float) -> list[dict[str, Any]]:
    """Return encoded rows of texts that are spoken as tones."""
    rows = [row_of("clip.wav", text, f"clip{place}") for place, text in enumerate(texts)]
    found = [encoder.encode(row, spoken(str(row["text"]), **options)) for row in rows]
    assert [row["error"] for row in found] == [""] * len(texts)
    return found


def trainer_of(
    family: ModelFamily, processor: Any, model: Any, rows: list[dict[str, Any]], run_dir: Path, **changes: Any
) -> SpeechTrainer:
    """Return a trainer over rows in their order, two SGD steps unless ``changes`` (training arguments) say other."""
    values: dict[str, Any] = {
        "output_dir": str(run_dir / "checkpoints"),
        "per_device_train_batch_size": len(rows),
        "max_steps": 2,
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
    table = Dataset.from_dict({name: [row[name] for row in rows] for name in ("id", "text", "duration")})
    split = PreparedSplit(name="train", rows=rows, table=table, drops=Drops())
    return SpeechTrainer(
        family=family,
        train=split,
        validation=split,
        conditions=Conditions(window="full", dtype="float32", batch_size=2, generation={}),
        normalizer="basic",
        model=model,
        args=Seq2SeqTrainingArguments(**(values | changes)),
        data_collator=family.make_collator(processor, model),
        processing_class=processor,
    )


def curve(trainer: SpeechTrainer) -> list[tuple[float, float]]:
    """Train; return (loss, gradient norm) of every logged step."""
    trainer.train()
    return [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "grad_norm" in entry]
