"""The model families, and which of them a checkpoint belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import Arguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.models import audio_llm, classifier, ctc, moonshine, parakeet, speech2text, whisper
from hf_asr.models.checkpoints import CONFIG_PREFIX, config_values
from hf_asr.models.family import ModelFamily, check_window

FAMILIES: Mapping[str, ModelFamily] = {
    "whisper": whisper.FAMILY,
    "speech2text": speech2text.FAMILY,
    "moonshine": moonshine.FAMILY,
    "parakeet_tdt": parakeet.FAMILY,
    "audio_llm": audio_llm.FAMILY,
    "ctc": ctc.FAMILY,
    "classifier": classifier.FAMILY,
    "regressor": classifier.REGRESSOR_FAMILY,
}


def get_family(model: ModelArguments, recipe: str | None = None) -> ModelFamily:
    """Return the family of ``model.family``, or else of the checkpoint's own ``model_type``.

    Args:
        model: The ``model`` section.
        recipe: The recipe that asks; None where any family will do.

    Raises:
        UserError: The family, the ``config:`` name or the checkpoint's type is not one of ours, there is no
            checkpoint, or another recipe trains it; the message lists what there is.
    """
    family = _find(model)
    check_window(family, model.window)
    if recipe not in (None, family.recipe):
        raise UserError(
            f"model.name_or_path: expected a model for recipes/{recipe}.py, found a {family.name} model. "
            f"Start recipes/{family.recipe}.py instead."
        )
    return family


def load_best(family: ModelFamily, arguments: Arguments, folder: Path, processor: Any) -> Any:
    """Load a run's best checkpoint as it lies on the disk: a stock model of its own, merged and not quantised.

    Args:
        family: Its family.
        arguments: The run's configuration; only its ``model`` section's checkpoint is replaced.
        folder: ``best_checkpoint``.
        processor: The run's processor.
    """
    chosen = replace(
        arguments.model, name_or_path=str(folder), tokenizer_name_or_path=None, revision=None, quantization="none"
    )
    return family.load_model(replace(arguments, model=chosen), processor)


def _find(model: ModelArguments) -> ModelFamily:
    if model.family is not None:
        return _by_name(model.family)
    if model.name_or_path.startswith(CONFIG_PREFIX):
        return _by_config_name(model.name_or_path.removeprefix(CONFIG_PREFIX))
    found = config_values(model)["model_type"]
    for family in FAMILIES.values():
        if found in family.model_types:
            return family
    known = "; ".join(f"{name}: {', '.join(family.model_types)}" for name, family in FAMILIES.items())
    raise UserError(
        f"model.name_or_path: expected a checkpoint of a known family ({known}), found model_type '{found}' in "
        f"{model.name_or_path}. Choose another checkpoint, or set model.family if it is one of these."
    )


def _by_name(name: str) -> ModelFamily:
    if name not in FAMILIES:
        raise UserError(f"model.family: expected one of {', '.join(FAMILIES)}, found '{name}'. Use one of these.")
    return FAMILIES[name]


def _by_config_name(name: str) -> ModelFamily:
    for family in FAMILIES.values():
        if name in family.config_names:
            return family
    known = ", ".join(f"{CONFIG_PREFIX}{name}" for family in FAMILIES.values() for name in family.config_names)
    raise UserError(f"model.name_or_path: expected one of {known}, found '{CONFIG_PREFIX}{name}'. Use one of these.")
