"""What verbs that decode need before they can: a folder to write, a device, a model with its split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

    from hf_asr.features.cache import PreparedSplit
    from hf_asr.models.family import ModelFamily
    from hf_asr.utterance import Drops


@dataclass(frozen=True)
class Loaded:
    """A model on its device, and a split that it can decode.

    Attributes:
        family: The model's family.
        processor: Its processor.
        model: The model.
        prepared: The split's encoded rows.
        drops: What the corpus left out of the split.
    """

    family: ModelFamily
    processor: Any
    model: Any
    prepared: PreparedSplit
    drops: Drops


def make_folder(folder: Path) -> None:
    """Make the output folder, before anything is decoded for it.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"found {folder}: {error.strerror}"
        raise UserError(f"--output-dir: expected a folder to write, {found}; choose another") from error


def on_this_device(arguments: Arguments) -> PartialState:
    """Return which process this is, and its device; transformers' own bars and warnings are switched off."""
    import torch
    from accelerate import PartialState
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Without cpu=True, torchrun's processes on a machine without a GPU would not know of each other.
    return PartialState(cpu=bool(arguments.training.get("use_cpu")) or not torch.accelerator.is_available())


def load_for(arguments: Arguments, split: str, device: torch.device) -> Loaded:
    """Load ``arguments.model`` and a split that it is to be scored on.

    Raises:
        UserError: The model or the corpus cannot be used.
    """
    from hf_asr.data.corpora import build_splits
    from hf_asr.features.prepare import prepare_splits
    from hf_asr.models import get_family

    family = get_family(arguments.model)
    processor = family.load_processor(arguments, None)
    model: Any = family.load_model(arguments, processor)
    model.to(device)
    splits = build_splits(arguments.data, seed=arguments.experiment.seed, names=(split,))
    encoder = family.make_encoder(processor, model.config, arguments)
    prepared = prepare_splits(splits, encoder, arguments, trained_on=())
    return Loaded(family, processor, model, prepared[split], splits[split].drops)
