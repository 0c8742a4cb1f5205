"""LoRA through peft: wrap before training, merge after it, so that the result is a stock model again."""

from __future__ import annotations

import logging
from pathlib import Path

import peft
from transformers import PreTrainedModel, set_seed

from hf_asr.config.arguments import FreezeArguments, PeftArguments
from hf_asr.errors import UserError
from hf_asr.models.family import ModelFamily
from hf_asr.training.freezing import TrainableReport, apply_freezing, frozen_names, names_of_group, trainable_report

logger = logging.getLogger(__name__)


def check_names(model: PreTrainedModel, family: ModelFamily, freeze: FreezeArguments, adapter: PeftArguments) -> None:
    """See that every name in ``freeze`` and ``peft`` is one of this model's, before hours go into a baseline.

    Raises:
        UserError: A name matches nothing, or a learning rate is meant for what is frozen.
    """
    frozen = frozen_names(model, family, freeze)
    for group in freeze.learning_rates:
        if frozen.issuperset(names_of_group(model, family, group)):
            raise UserError(
                f"freeze.learning_rates: expected groups that are trained, found '{group}', which is frozen. Remove "
                "its rate, or do not freeze it."
            )
    modules = [name for name, _ in model.named_modules()] if adapter.method != "none" else []
    for target in (adapter.target_modules or ()) if modules else ():
        if not any(name == target or name.endswith(f".{target}") for name in modules):
            raise UserError(
                f"peft.target_modules: expected names of modules in {family.name} (its own default is "
                f"{', '.join(family.lora_targets)}), found '{target}'. Look them up with model.named_modules()."
            )


def make_trainable(
    model: PreTrainedModel, family: ModelFamily, freeze: FreezeArguments, adapter: PeftArguments, seed: int
) -> tuple[PreTrainedModel | peft.PeftModel, TrainableReport]:
    """Freeze or adapt ``model`` as configured.

    Args:
        model: The pretrained model; frozen in place.
        family: Gives group names and the modules that adapters go to.
        freeze: What is not trained, in full fine-tuning.
        adapter: ``none`` or ``lora``.
        seed: New adapter weights are a function of it.

    Raises:
        UserError: Both freeze and an adapter are asked for, or a name matches nothing.
    """
    if adapter.method == "none":
        return model, apply_freezing(model, family, freeze)
    if freeze.groups or freeze.last_n_encoder_layers is not None:
        raise UserError(
            f"expected either freeze or peft, found both: peft.method={adapter.method} already freezes the whole "
            "base. Remove the freeze section, or narrow peft.target_modules."
        )
    set_seed(seed)
    wrapped = wrap_lora(model, family, adapter)
    report = trainable_report(wrapped)
    logger.info("%s: %s", adapter.method, report)
    return wrapped, report


def wrap_lora(model: PreTrainedModel, family: ModelFamily, adapter: PeftArguments) -> peft.PeftModel:
    """Add LoRA matrices (Hu et al. 2021) to the family's or the user's target modules.

    ``task_type`` stays unset: peft's wrapper for SEQ_2_SEQ_LM passes ``input_ids``, which Whisper has not.

    Raises:
        UserError: A target matches no module.
    """
    targets = list(adapter.target_modules or family.lora_targets)
    config = peft.LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # only ever divided by r: a fraction is right too
        lora_dropout=adapter.dropout,
        target_modules=targets,
        bias="none",
    )
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"peft.target_modules: expected names of modules in {family.name} (its own default is "
            f"{', '.join(family.lora_targets)}), found {', '.join(targets)}: {error}"
        ) from error


def merged(model: PreTrainedModel | peft.PeftModel) -> PreTrainedModel:
    """Return a stock model: adapter weights are added into the base, and the wrapper is gone."""
    if isinstance(model, peft.PeftModel):
        return model.merge_and_unload()
    return model


def set_aside(model: PreTrainedModel | peft.PeftModel, folder: Path) -> PreTrainedModel:
    """Save adapters into ``folder`` and return the stock model without them.

    Saved into the same folder, the two are put together again by ``from_pretrained``, which then needs peft.
    """
    if isinstance(model, peft.PeftModel):
        model.save_pretrained(str(folder))
        return model.unload()
    return model
