"""Adapters through peft, on a plain or a quantised base: wrap before training, merge into a stock model after it.

How close a merged model is to what was trained, as the greatest difference of logits of about 1 in size (measured on a
tiny Whisper; tests/training/test_quantised.py holds the tolerances): 2e-7 on a 4-bit base that computes in float32
(tolerance 1e-5, as on a float32 base); 2e-3 on one that computes in bfloat16 and 5e-3 on an 8-bit base (tolerance
3e-2): these round activations, which the merged float32 model does not.
"""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bitsandbytes
import peft
import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel, TrainerCallback, set_seed
from transformers.pytorch_utils import Conv1D

from hf_asr.config.arguments import FreezeArguments, PeftArguments
from hf_asr.errors import UserError
from hf_asr.models.family import ModelFamily
from hf_asr.training.adalora import START_SHARE, AdaLora
from hf_asr.training.freezing import (
    TrainableReport,
    apply_freezing,
    frozen_names,
    hold_frozen_statistics,
    matching_names,
    names_of_group,
    trainable_report,
)
from hf_asr.training.unfreezing import unfreezing_plan

logger = logging.getLogger(__name__)
# A line for every layer of every 8-bit forward: "inputs will be cast to float16".
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

QUANTISED = (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)
# AdaLoRA's config wants the number of steps before there is a trainer to tell it; AdaLora sets the right one.
UNKNOWN_STEPS = 10**9
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def check_names(model: PreTrainedModel, family: ModelFamily, freeze: FreezeArguments, adapter: PeftArguments) -> None:
    """See that every name in ``freeze`` and ``peft`` is one of this model's, before hours go into a baseline.

    Raises:
        UserError: A name matches nothing, a learning rate is meant for what is frozen, or what must be trained is.
    """
    plan = unfreezing_plan(model, family, freeze)
    frozen = frozen_names(model, family, freeze) - {name for names in plan.values() for name in names}
    for group in freeze.learning_rates:
        if frozen.issuperset(names_of_group(model, family, group)):
            raise UserError(
                f"freeze.learning_rates: expected groups that are trained, found '{group}', which is frozen. Remove "
                "its rate, or do not freeze it."
            )
    check_new_embeddings(model, family, frozen, adapter)
    if adapter.method != "none":
        check_targets(model, family, adapter)


def check_targets(model: PreTrainedModel, family: ModelFamily, adapter: PeftArguments) -> None:
    """See that there are modules of these names, and that the user's are linear layers.

    peft wraps convolutions too, but models then look in vain for their stride. A rank above a layer's size is only
    told: it costs memory and learns nothing more.

    Raises:
        UserError: A target matches nothing, or another kind of layer.
    """
    named = list(model.named_modules())
    found = {
        target: [module for name, module in named if f".{name}".endswith(f".{target}")]
        for target in adapter.target_modules or family.lora_targets
        if target
    }
    # Of the family's own, some are other architectures' names; whoever names targets means each of them.
    for target in adapter.target_modules or (() if any(found.values()) else family.lora_targets):
        if not found.get(target):
            raise _unknown_target(family, target)
        odd = [type(module).__name__ for module in found[target] if not isinstance(module, torch.nn.Linear)]
        if odd:
            raise _unknown_target(family, f"{target}, which is no linear layer but a {odd[0]}")
    layers = [module for modules in found.values() for module in modules if isinstance(module, torch.nn.Linear)]
    least = min(min(layer.in_features, layer.out_features) for layer in layers) if layers else adapter.r
    if adapter.r > least:
        logger.warning("peft.r: %d is above the %d of the smallest adapted layer: it only costs more", adapter.r, least)


def check_new_embeddings(model: PreTrainedModel, family: ModelFamily, frozen: set[str], adapter: PeftArguments) -> None:
    """See that what a swapped tokenizer made anew is trained.

    Adapters are refused with it: they freeze the base, and adapters alone cannot name pieces that the model never saw.

    Raises:
        UserError: It stays frozen.
    """
    needed = set(matching_names(model, family.must_train(model)))
    if needed and adapter.method != "none":
        raise UserError(
            f"peft.method: expected none, since the tokenizer was swapped and adapters would leave the new embeddings "
            f"({', '.join(sorted(needed))}) untrained, found {adapter.method}. Train fully once, then adapt that model."
        )
    if needed & frozen:
        raise UserError(
            f"freeze: expected {', '.join(sorted(needed & frozen))} to be trained, since the tokenizer was swapped and "
            "pieces that are new have no embedding yet, found it frozen: the model could never write them. Take its "
            "group (embeddings, head, decoder) out of freeze.groups, or keep the checkpoint's own tokenizer."
        )


def make_trainable(
    model: PreTrainedModel, family: ModelFamily, freeze: FreezeArguments, adapter: PeftArguments, seed: int
) -> tuple[PreTrainedModel | peft.PeftModel, TrainableReport]:
    """Freeze or adapt ``model`` as configured.

    Args:
        model: The pretrained model; frozen in place.
        family: Gives group names and the modules that adapters go to.
        freeze: What is not trained, in full fine-tuning.
        adapter: Its method: ``none``, ``lora``, ``dora`` or ``adalora``.
        seed: New adapter weights are a function of it.

    Raises:
        UserError: Both freeze and an adapter are asked for, a quantised base has none, or a name matches nothing.
    """
    if adapter.method == "none":
        if is_quantised(model):
            raise UserError(
                "model.quantization: expected adapters on a quantised base, whose weights cannot be trained, found "
                "peft.method=none. Set peft.method=lora, or model.quantization=none."
            )
        return model, apply_freezing(model, family, freeze)
    if freeze.groups or freeze.last_n_encoder_layers is not None or freeze.unfreeze:
        raise UserError(
            f"expected either freeze or peft, found both: peft.method={adapter.method} already freezes the whole "
            "base. Remove the freeze section, or narrow peft.target_modules."
        )
    set_seed(seed)
    wrapped = wrap_lora(model, family, adapter)
    hold_frozen_statistics(wrapped)
    report = trainable_report(wrapped)
    logger.info("%s: %s", adapter.method, report)
    return wrapped, report


def wrap_lora(model: PreTrainedModel, family: ModelFamily, adapter: PeftArguments) -> peft.PeftModel:
    """Add adapters to the family's or the user's target modules, and freeze the base.

    ``task_type`` stays unset: peft's wrapper for SEQ_2_SEQ_LM passes ``input_ids``, which speech models have not. What
    a quantised base keeps in half precision (norms, embeddings) becomes float32, as its gradients pass through.

    Raises:
        UserError: A target matches no module, or is of a kind that adapters do not fit.
    """
    eight_bit = any(isinstance(module, bitsandbytes.nn.Linear8bitLt) for module in model.modules())
    if adapter.method == "dora" and eight_bit and model.device.type == "cpu":  # peft 0.21 drops the scales of the rows
        raise UserError(
            "peft.method: expected lora or adalora on an 8-bit base on a CPU, found dora, which needs a GPU there. Set "
            "peft.method=lora or model.quantization=4bit."
        )
    if is_quantised(model):
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = adapter_config(family, adapter)
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        targets = ", ".join(sorted(adapter.target_modules or family.lora_targets))
        raise _unknown_target(family, f"{targets}; {error}") from error


def adapter_config(family: ModelFamily, adapter: PeftArguments) -> peft.PeftConfig:
    """Return peft's config of LoRA (Hu et al. 2021), DoRA (Liu et al. 2024) or AdaLoRA (Zhang et al. 2023).

    AdaLoRA's ``r`` is the rank that is left on average; it begins with 1.5 times that.
    """
    shared: dict[str, Any] = {
        "lora_alpha": adapter.alpha,  # only ever divided by r: a fraction is right too
        "lora_dropout": adapter.dropout,
        "target_modules": list(adapter.target_modules or family.lora_targets),
        "bias": "none",
        # A classifier's head is new: it is trained whole, beside the adapters.
        "modules_to_save": None if family.scoring == "words" else [family.head],
    }
    if family.lora_excluded and adapter.target_modules is None:
        shared["exclude_modules"] = rf"(.*\.)?({'|'.join(family.lora_excluded)})\..*"
    if adapter.method == "adalora":
        start = math.ceil(START_SHARE * adapter.r)
        return peft.AdaLoraConfig(target_r=adapter.r, init_r=start, total_step=UNKNOWN_STEPS, **shared)
    return peft.LoraConfig(r=adapter.r, use_dora=adapter.method == "dora", **shared)


def adapter_callbacks(model: PreTrainedModel | peft.PeftModel) -> list[TrainerCallback]:
    """Return what a model's adapters need to be told during training; only AdaLoRA needs something."""
    adaptive = isinstance(model, peft.PeftModel) and isinstance(model.base_model, peft.AdaLoraModel)
    return [AdaLora(model)] if adaptive else []


def is_quantised(model: PreTrainedModel | peft.PeftModel) -> bool:
    """Tell whether the base is stored in 8 or 4 bits."""
    return any(isinstance(module, QUANTISED) for module in model.modules())


def merged(model: PreTrainedModel | peft.PeftModel) -> PreTrainedModel:
    """Return a stock float32 model: adapters are added into the base, dequantised first, and the wrapper is gone."""
    if not isinstance(model, peft.PeftModel):
        return model
    if not is_quantised(model):
        return model.merge_and_unload()
    with TemporaryDirectory() as folder:
        save_adapter(model, Path(folder))
        return peft.PeftModel.from_pretrained(dequantised(model.unload()), folder).merge_and_unload()


def set_aside(model: PreTrainedModel | peft.PeftModel, folder: Path) -> PreTrainedModel:
    """Save adapters into ``folder`` and return the stock model without them, dequantised.

    Saved into the same folder, the two are put together again by ``from_pretrained``, which then needs peft.
    """
    if not isinstance(model, peft.PeftModel):
        return model
    save_adapter(model, folder)
    base = model.unload()
    return dequantised(base) if is_quantised(base) else base


def save_adapter(model: PreTrainedModel | peft.PeftModel, folder: Path) -> None:
    """Save the adapters of ``model``, if it has some, in peft's format; the base stays out."""
    if isinstance(model, peft.PeftModel):
        model.save_pretrained(str(folder), save_embedding_layers=False)


def load_adapters(model: PreTrainedModel, folders: Mapping[str, str | Path]) -> peft.PeftModel:
    """Put adapters of several runs, such as one a language, onto their one base; the first is active.

    ``model.set_adapter("ru")`` switches to another, in milliseconds and without reading the base again.

    Args:
        model: The base that all of them were trained on, quantised or not as it was then.
        folders: A name for each adapter to the ``adapter`` folder of its run.

    Raises:
        UserError: A folder has no adapter, or one that does not fit this model.
    """
    wrapped: peft.PeftModel | None = None
    for name, folder in folders.items():
        try:
            names = adapter_weights(Path(folder))
            if wrapped is None:
                wrapped = peft.PeftModel.from_pretrained(model, str(folder), adapter_name=name)
            else:
                wrapped.load_adapter(str(folder), adapter_name=name)
            # peft only warns of them, and leaves them as they begin: an adapter that does nothing.
            missing = sorted(peft.get_peft_model_state_dict(wrapped, adapter_name=name).keys() - names)
            if missing:
                raise ValueError(f"{ADAPTER_WEIGHTS} without {len(missing)} of its weights, {missing[0]} first")
        except (ValueError, OSError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
            found = str(error).strip().splitlines()[0]
            raise UserError(
                f"adapter {name}: expected the adapter folder of a run on this base, found {folder}: {found}. Give the "
                "folder that has adapter_config.json."
            ) from error
    if wrapped is None:
        raise UserError("adapters: expected at least one name with its folder, found none. Give one.")
    wrapped.set_adapter(next(iter(folders)))
    return wrapped.eval()


def adapter_weights(folder: Path) -> set[str]:
    """Return the names of the weights in an adapter folder.

    Raises:
        ValueError: Its ``adapter_config.json`` is no mapping, or its weights are missing.
        SafetensorError: They are damaged.
    """
    if not isinstance(json.loads((folder / "adapter_config.json").read_text("utf-8")), dict):
        raise ValueError("an adapter_config.json that is no mapping")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ValueError(f"no {ADAPTER_WEIGHTS}")
    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
        return set(file.keys())


@torch.no_grad()
def dequantised(model: PreTrainedModel) -> PreTrainedModel:
    """Return a float32 model of the stock class with the values that a quantised one computes with; on the CPU.

    Its config has no ``quantization_config``: it loads without bitsandbytes.
    """
    values = copy.deepcopy(model.config.to_dict())
    values.pop("quantization_config", None)
    config = type(model.config).from_dict(values)
    plain = type(model)._from_config(config, dtype=torch.float32, attn_implementation=model.config._attn_implementation)
    weights = {name: tensor for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    for name, module in model.named_modules():
        if isinstance(module, QUANTISED):
            weights[f"{name}.weight"] = dequantised_weight(module)
    for name, module in plain.named_modules():
        # GPT-2's layers have their matrices the other way round; quantised, they are like all others.
        if isinstance(module, Conv1D) and isinstance(model.get_submodule(name), QUANTISED):
            weights[f"{name}.weight"] = weights[f"{name}.weight"].T
    for name, tensor in [*plain.named_parameters(), *plain.named_buffers()]:
        tensor.copy_(weights[name])
    if model.can_generate():
        plain.generation_config = model.generation_config
    return plain.eval()


def dequantised_weight(module: Any) -> torch.Tensor:
    """Return the matrix (outputs, inputs) that a quantised layer multiplies with.

    Args:
        module: A Linear4bit or a Linear8bitLt, whose weights have fields that tensors have not.
    """
    weight, functional = module.weight, bitsandbytes.functional
    if type(module) is bitsandbytes.nn.Linear4bit:
        return functional.dequantize_4bit(weight.data, weight.quant_state).float()
    # Whole numbers of -127 to 127 and the largest value of each row, which the first forward moves into the state.
    largest = weight.SCB if module.state.SCB is None else module.state.SCB
    return functional.int8_vectorwise_dequant(weight.data, largest).float()


def _unknown_target(family: ModelFamily, found: str) -> UserError:
    return UserError(
        f"peft.target_modules: expected names of modules in {family.name} (its own default is "
        f"{', '.join(family.lora_targets)}), found '{found}'. Look them up with model.named_modules()."
    )
