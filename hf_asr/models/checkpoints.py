"""Reading checkpoints from a folder or the Hub: safetensors only, no code of theirs, and a message when it fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError
from transformers import PreTrainedConfig

from hf_asr.config.arguments import ModelArguments
from hf_asr.errors import UserError

logger = logging.getLogger(__name__)

CONFIG_PREFIX = "config:"
# What transformers raises for a checkpoint that is missing, damaged or of another kind: a config.json with wrong
# values gets as far as the layers, which use assert.
LOAD_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
    SafetensorError,
    HfHubHTTPError,
    StrictDataclassError,
)
DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def is_config_name(model: ModelArguments) -> bool:
    """Tell whether a random model of a known architecture is asked for."""
    return model.name_or_path.startswith(CONFIG_PREFIX)


def revision_of(model: ModelArguments) -> str:
    """Return the branch, tag or commit to read on the Hub."""
    return model.revision or "main"


def config_values(model: ModelArguments) -> dict[str, Any]:
    """Return a checkpoint's config.json; it has a ``model_type``.

    ``from_pretrained`` of a config class answers a folder without one with the class's defaults.

    Raises:
        UserError: There is no such folder or model, or it has no config.json with a ``model_type``.
    """
    with reporting("model.name_or_path", model.name_or_path, "a transformers checkpoint with a config.json"):
        values, _ = PreTrainedConfig.get_config_dict(model.name_or_path, revision=revision_of(model))
    if not isinstance(values, dict) or not values.get("model_type"):
        raise UserError(
            f"model.name_or_path: expected a transformers checkpoint, found {model.name_or_path} without a config.json "
            "that has a model_type. Give the folder that save_pretrained wrote."
        )
    return values


@contextmanager
def reporting(key: str, name: str, expected: str) -> Iterator[None]:
    """Turn what loading raises into a message.

    Args:
        key: Configuration key that named the checkpoint.
        name: Its value.
        expected: What there should have been.

    Raises:
        UserError: Loading failed, or a package for the asked attention is missing.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"model.attn_implementation: expected a package that is installed, found: {_first_line(error)}. "
            "Install it, or set model.attn_implementation=sdpa."
        ) from error
    except LOAD_ERRORS as error:
        raise UserError(f"{key}: expected {expected}, found {_found(name, error)}. {_advice(name)}") from error


def load_weights(model_class: Any, model: ModelArguments, config: PreTrainedConfig) -> Any:
    """Load a checkpoint's weights into a stock class, float32 unless ``model.dtype`` says otherwise.

    Raises:
        UserError: There are no safetensors, they lack weights, or they are of another shape.
    """
    with reporting("model.name_or_path", model.name_or_path, "a checkpoint with safetensors weights"):
        loaded, report = model_class.from_pretrained(
            model.name_or_path,
            config=config,
            revision=revision_of(model),
            dtype=DTYPES[model.dtype],
            attn_implementation=model.attn_implementation,
            use_safetensors=True,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(
            f"model.name_or_path: expected all weights of {model_class.__name__} in {model.name_or_path}, found "
            f"{len(missing)} missing ({', '.join(missing[:3])}). They would be random: give a whole checkpoint."
        )
    return loaded


def _found(name: str, error: Exception) -> str:
    if Path(name).exists() or not _may_be_on_hub(name):
        what = "nothing there" if not Path(name).exists() else _first_line(error)
        return f"{name}: {what}"
    if is_offline_mode():
        return f"no folder {name}, and the Hub is switched off (HF_HUB_OFFLINE) with no copy in its cache"
    return f"no folder {name}, and the Hub said: {_first_line(error)}"


def _advice(name: str) -> str:
    if Path(name).exists():
        return "Give the folder that save_pretrained wrote."
    if _may_be_on_hub(name) and is_offline_mode():
        return "Check the name, give a local folder, or fetch it once with the Hub switched on."
    return "Check the name and model.revision."


def _may_be_on_hub(name: str) -> bool:
    return not name.startswith((".", "/", "~")) and name.count("/") <= 1


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
