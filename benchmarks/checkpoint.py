"""The checkpoint that both sides load: a published Whisper's dimensions, random weights, a real tokenizer."""

from __future__ import annotations

from pathlib import Path

from transformers import WhisperFeatureExtractor, WhisperProcessor

from hf_asr.cli.demo_model import train_tokenizer
from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.models import FAMILIES


def write_checkpoint(folder: Path, size: str, real: Path | None) -> Path:
    """Write a stock Whisper folder and return it.

    Args:
        folder: Where it goes.
        size: ``tiny``, ``small`` or ``large-v3``.
        real: Folder of real data with the multilingual tokenizer; None for an English-only model with a tokenizer of
            a few words.
    """
    tokenizer = real / "whisper-tokenizer-multilingual" if real else _own_tokenizer(folder.with_name("tokenizer"))
    name = f"config:whisper-{size}" + ("" if real else ".en")
    model = ModelArguments(name, tokenizer_name_or_path=str(tokenizer))
    arguments = Arguments(ExperimentArguments("benchmark"), model, DataArguments(language="en"))
    family = FAMILIES["whisper"]
    processor = family.load_processor(arguments, None)
    family.load_model(arguments, processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _own_tokenizer(folder: Path) -> Path:
    WhisperProcessor(WhisperFeatureExtractor(), train_tokenizer(["the"] * 8)).save_pretrained(folder)
    return folder
