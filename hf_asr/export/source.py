"""What is exported: a run's best checkpoint, a checkpoint of its own, or adapters with their base."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from hf_asr.config.arguments import Arguments, ExperimentArguments, ModelArguments
from hf_asr.config.parser import load_arguments
from hf_asr.errors import UserError
from hf_asr.models import get_family
from hf_asr.models.family import ModelFamily
from hf_asr.training.adapters import dequantised, is_quantised, load_adapters, merged
from hf_asr.training.run import ADAPTER, BEST

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
RUN_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Place:
    """Where a model lies.

    Attributes:
        model: The ``model`` section that loads it, its base where there are adapters.
        adapter: Folder of the adapters that go onto it; None where there are none.
    """

    model: ModelArguments
    adapter: Path | None = None


@dataclass(frozen=True)
class Source:
    """A loaded model.

    Attributes:
        family: Its family.
        arguments: The configuration that it was loaded with.
        processor: Its feature extractor and tokenizer.
        model: The model as it was trained: its base may be quantised, its adapters are not merged.
    """

    family: ModelFamily
    arguments: Arguments
    processor: Any
    model: Any


def find_model(folder: Path, base: str | None = None) -> Place:
    """Find what a folder holds.

    Args:
        folder: A run folder, a checkpoint (``best_checkpoint``), or the ``adapter`` folder of a run.
        base: The model that adapters go onto, where it is not the one they name.

    Raises:
        UserError: It holds none of these, or a base is given that nothing needs.
    """
    if (folder / BEST / CONFIG).is_file() or (folder / BEST / ADAPTER_CONFIG).is_file():
        folder = folder / BEST
    elif (folder / ADAPTER / ADAPTER_CONFIG).is_file():
        folder = folder / ADAPTER
    if not (folder / CONFIG).is_file() and (folder / ADAPTER_CONFIG).is_file():
        return Place(_base_of(folder, base), folder)
    if not (folder / CONFIG).is_file():
        found = f"{folder} without one" if folder.is_dir() else f"no folder {folder}"
        raise UserError(
            f"--model: expected a run folder, a checkpoint with a {CONFIG} or an adapter folder with an "
            f"{ADAPTER_CONFIG}, found {found}. Give a local folder: best_checkpoint of a run, or a model fetched whole."
        )
    if base is not None:
        raise UserError(
            f"--base: expected an adapter folder in --model, found a whole checkpoint in {folder}. Omit it."
        )
    model = ModelArguments(str(folder))
    return Place(model, folder if (folder / ADAPTER_CONFIG).is_file() else None)


def _base_of(folder: Path, base: str | None) -> ModelArguments:
    """Return what loads the base of adapters: as the run beside them says, quantised or not."""
    run = folder.parent / RUN_CONFIG
    known = load_arguments([run]).model if run.is_file() else None
    if known is not None:
        return replace(known, name_or_path=base or known.name_or_path, window="full")
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
    except ValueError as error:
        config = error
    if not isinstance(config, dict):
        raise UserError(
            f"--model: expected an {ADAPTER_CONFIG} that is a mapping, found {folder}: {config}. Give the folder that "
            "a run wrote."
        )
    named = base or config.get("base_model_name_or_path")
    if not named:
        raise UserError(
            f"--base: expected the model that the adapters in {folder} go onto, found none named. Give --base DIR."
        )
    return ModelArguments(str(named))


def full_window(arguments: Arguments) -> Arguments:
    """Return a configuration in which the whole window is computed, for training and decoding."""
    model, evaluation = replace(arguments.model, window="full"), replace(arguments.evaluation, window="full")
    return replace(arguments, model=model, evaluation=evaluation)


def arguments_of(place: Place, arguments: Arguments | None = None) -> Arguments:
    """Return the configuration that a model is loaded with.

    Args:
        place: The model.
        arguments: What it is verified with: corpus, language and decoding are taken from there.
    """
    given = Arguments(ExperimentArguments("export"), place.model) if arguments is None else arguments
    # A head is exported with the characters that it was saved with.
    ctc = replace(given.ctc, vocabulary="checkpoint")
    return full_window(replace(given, model=place.model, ctc=ctc))


def open_source(place: Place, arguments: Arguments) -> Source:
    """Load a model as it was trained.

    Args:
        place: Where it is.
        arguments: From :func:`arguments_of`.

    Raises:
        UserError: It cannot be loaded, or the adapters do not fit it.
    """
    family = get_family(arguments.model)
    processor = family.load_processor(arguments, None)
    if place.adapter is None or str(place.adapter) != arguments.model.name_or_path:
        model: Any = family.load_model(arguments, processor)
    else:
        model = _without_adapter(family, arguments, processor, place.adapter)
    if place.adapter is not None:
        model = load_adapters(model, {"default": place.adapter})
    return Source(family, arguments, processor, model.eval())


def _without_adapter(family: ModelFamily, arguments: Arguments, processor: Any, folder: Path) -> Any:
    """Load the base of a checkpoint that has its adapters beside it (``peft.merge: false``).

    From the folder itself transformers would put them into the model without peft's wrapper, which alone can merge.
    """
    with TemporaryDirectory() as temporary:
        for path in folder.iterdir():
            if not path.name.startswith("adapter_"):
                Path(temporary, path.name).symlink_to(path.resolve())
        model = replace(arguments.model, name_or_path=temporary)
        return family.load_model(replace(arguments, model=model), processor)


def stock_model(source: Source) -> PreTrainedModel:
    """Return a stock float32 model of a source, adapters merged and weights dequantised; the source is used up."""
    plain = merged(source.model)
    return (dequantised(plain) if is_quantised(plain) else plain).float().cpu().eval()
