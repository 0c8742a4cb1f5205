"""Reading checkpoints from a folder or the Hub: safetensors only, no code of theirs, and a message when it fails."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel

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
# Attribute of bitsandbytes' 4-bit layers.
CPU_PACKING = "support_avx512bf16_for_cpu"
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


def load_weights(
    model_class: Any,
    model: ModelArguments,
    config: PreTrainedConfig,
    new: tuple[str, ...] = (),
    unquantised: tuple[str, ...] = (),
) -> Any:
    """Load a checkpoint's weights into a stock class, float32 unless ``model.dtype`` says otherwise.

    Args:
        model_class: The stock class.
        model: The ``model`` section.
        config: What the class is built with.
        new: Parts of names of weights that may be missing, since they are made new.
        unquantised: Patterns of names of linear layers that stay as they are; none: transformers' choice.

    Raises:
        UserError: There are no safetensors, they lack weights, or they are of another shape.
    """
    quantised = model.quantization != "none"
    options = {"quantization_config": quantization_config(model, unquantised)} if quantised else {}
    with reporting("model.name_or_path", model.name_or_path, "a checkpoint with safetensors weights"):
        loaded, report = model_class.from_pretrained(
            model.name_or_path,
            config=config,
            revision=revision_of(model),
            dtype=DTYPES[model.dtype],
            attn_implementation=model.attn_implementation,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    missing = sorted(name for name in report["missing_keys"] if not any(part in name for part in new))
    if missing:
        raise UserError(
            f"model.name_or_path: expected all weights of {model_class.__name__} in {model.name_or_path}, found "
            f"{len(missing)} missing ({', '.join(missing[:3])}). They would be random: give a whole checkpoint."
        )
    keep_layout(loaded)
    return loaded


def quantization_config(model: ModelArguments, unquantised: tuple[str, ...] = ()) -> BitsAndBytesConfig:
    """Return how bitsandbytes stores the linear layers: 8-bit LLM.int8 (Dettmers et al. 2022) or 4-bit NormalFloat.

    Four bits are QLoRA's (Dettmers et al. 2023): quantiles of a normal distribution, one scale for 64 weights, with
    ``model.double_quant`` stored in 8 bits themselves. The head, embeddings, norms and convolutions stay as they are.

    Args:
        model: The ``model`` section.
        unquantised: Patterns of names of linear layers that stay as well. transformers finds a head by itself only
            where it is the output embedding, or the last layer and without a bias.
    """
    skipped = list(unquantised) or None
    if model.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        llm_int8_skip_modules=skipped,  # of 4 bits too, whatever its name says
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=model.double_quant,
        bnb_4bit_compute_dtype=compute_dtype(model),
    )


def keep_layout(model: PreTrainedModel) -> None:
    """Have 4-bit layers keep their weights as they were stored, in place; nothing to do for other models.

    On a CPU with AVX512-BF16 bitsandbytes 0.50 packs them anew in the first decoding, with scales rounded to bfloat16:
    from then on they are other weights, which no dequantising and no gradient undoes.
    """
    for module in model.modules():
        if CPU_PACKING in vars(module):
            vars(module)[CPU_PACKING] = False


def compute_dtype(model: ModelArguments) -> torch.dtype:
    """Return the type that 4-bit weights are multiplied in: ``auto`` is bfloat16 on a GPU that has it, else float32."""
    if model.compute_dtype != "auto":
        return DTYPES[model.compute_dtype]
    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float32


def finish_random(built: PreTrainedModel, model: ModelArguments, unquantised: tuple[str, ...] = ()) -> PreTrainedModel:
    """Return a model that was built from its config in the type, or the bits, that ``model`` asks for.

    Only a checkpoint can be read quantised: the model goes through a temporary folder (its size on the disk).

    Args:
        built: The model.
        model: The ``model`` section.
        unquantised: As for :func:`load_weights`.
    """
    if model.quantization == "none":
        return built.to(DTYPES[model.dtype])  # type: ignore[arg-type]
    with TemporaryDirectory() as folder:
        built.save_pretrained(folder)
        loaded: PreTrainedModel = load_weights(
            type(built),
            replace(model, name_or_path=folder, revision=None),
            built.config,
            unquantised=unquantised,
        )
    loaded.config.name_or_path = model.name_or_path
    return loaded


def random_weights(architecture: Any, config: PreTrainedConfig, attention: str) -> Any:
    """Build an architecture with random weights.

    Args:
        architecture: The stock class.
        config: Its config.
        attention: ``model.attn_implementation``.

    Raises:
        UserError: The architecture has no such attention, or its package is not installed.
    """
    try:
        return architecture._from_config(config, attn_implementation=attention)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"model.attn_implementation: expected an attention that {architecture.__name__} has and that is "
            f"installed, found {attention}: {_first_line(error)}. Set model.attn_implementation=sdpa."
        ) from error


@contextmanager
def own_random_state(seed: int, name: str) -> Iterator[None]:
    """Let what is built inside have weights that are a function of ``seed`` and ``name``.

    The global random state is left alone.
    """
    own_seed = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") >> 1
    before = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(own_seed)
        yield
    finally:
        torch.default_generator.set_state(before)


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
