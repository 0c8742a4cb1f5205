"""One safetensors checkpoint that plain transformers loads: adapters merged, quantised weights written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_asr.export.format import Format
from hf_asr.export.source import Source
from hf_asr.models import load_best
from hf_asr.models.checkpoints import DTYPES


def write(model: PreTrainedModel, source: Source, folder: Path, quantization: str) -> None:
    """Save a stock model and its processor.

    Args:
        model: From :func:`hf_asr.export.source.stock_model`.
        source: Where it comes from.
        folder: A folder that exists.
        quantization: Type of the stored weights.
    """
    model.config.use_cache = True
    model.to(DTYPES[quantization]).save_pretrained(folder)  # type: ignore[arg-type]
    source.processor.save_pretrained(folder)
    source.family.check_saved(folder, model)


def open_exported(folder: Path, source: Source) -> Any:
    """Load what was written, in the type that it is stored in."""
    model = replace(source.arguments.model, dtype="auto")
    return load_best(source.family, replace(source.arguments, model=model), folder, source.processor).eval()


def computed(model: Any) -> str:
    """Return the type that a model's weights are in."""
    return str(model.dtype).removeprefix("torch.")


def any_model(family: str, model_type: str) -> None:
    """Take every family."""


def any_decoding(options: dict[str, Any]) -> None:
    """Take every option that the family's own decoding takes."""


FORMAT = Format(
    name="merged",
    quantizations=("float32", "float16", "bfloat16"),
    packages=(),
    runtime="transformers",
    check=any_model,
    write=write,
    open=open_exported,
    computed=computed,
    check_decoding=any_decoding,
)
