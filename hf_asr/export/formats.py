"""The formats of ``hf-asr export``, and the writing of one: a folder that is whole or absent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from hf_asr.errors import UserError
from hf_asr.export import ctranslate2, merged, onnx
from hf_asr.export.format import Format
from hf_asr.export.source import Source, stock_model
from hf_asr.features.storage import renamed_when_whole

logger = logging.getLogger(__name__)

FORMATS: Mapping[str, Format] = {
    "merged": merged.FORMAT,
    "ctranslate2": ctranslate2.FORMAT,
    "onnx": onnx.FORMAT,
}


def check_folder(folder: Path) -> None:
    """See that an export overwrites nothing, before anything is loaded for it.

    Raises:
        UserError: The folder has content, or cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        content = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise UserError(
            f"--output-dir: expected a folder to write, found {folder}: {error.strerror}; choose another"
        ) from error
    if content:
        raise UserError(
            f"--output-dir: expected a new or an empty folder, found {content[0]} in {folder}. Choose another, or "
            "delete it."
        )


def write_export(source: Source, format: Format, folder: Path, quantization: str) -> None:
    """Write a model in a format; the source is used up.

    Args:
        source: The model.
        format: From :data:`FORMATS`.
        folder: New or empty.
        quantization: From ``format.chosen``.

    Raises:
        UserError: The format cannot hold the model.
    """
    format.check(source.family.name, source.model.config.model_type)
    plain = stock_model(source)
    with renamed_when_whole(folder) as unfinished:
        format.write(plain, source, unfinished, quantization)
    logger.info("wrote %s", folder)
