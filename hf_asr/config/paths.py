"""Local paths of a configuration made absolute: a run can then be repeated, and evaluated, from anywhere."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from hf_asr.config.arguments import SPLITS, Arguments, DataArguments
from hf_asr.config.augmentations import AugmentArguments

# Corpora whose data.name is a Hub id or a folder; an id stays as it is because there is no such folder.
NAMES_ARE_PLACES = ("hub", "gigaspeech")
TRAINING_PATHS = ("resume_from_checkpoint", "deepspeed", "fsdp_config")


def absolute_paths(arguments: Arguments) -> Arguments:
    """Return a copy whose local paths are absolute; relative ones count from the working directory."""
    experiment, model, features = arguments.experiment, arguments.model, arguments.features
    augment: dict[str, Any] = {
        name: local_mapping(value, ("folder",)) if isinstance(value, dict) else value
        for name, value in vars(arguments.augment).items()
    }
    also = {
        name: local_data(item, arguments.data.corpus) if isinstance(item, dict) else item
        for name, item in arguments.evaluation.also.items()
    }
    training = {key: local(value) if key in TRAINING_PATHS else value for key, value in arguments.training.items()}
    return replace(
        arguments,
        experiment=replace(experiment, output_dir=absolute(experiment.output_dir)),
        model=replace(
            model,
            name_or_path=local_folder(model.name_or_path),
            tokenizer_name_or_path=model.tokenizer_name_or_path and local_folder(model.tokenizer_name_or_path),
        ),
        data=DataArguments(**local_data(vars(arguments.data))),
        features=replace(features, cache_dir=features.cache_dir and absolute(features.cache_dir)),
        augment=AugmentArguments(**augment),
        evaluation=replace(arguments.evaluation, also=also),
        training=training,
    )


def absolute(path: str) -> str:
    """Make a path absolute whether or not it exists."""
    return os.path.abspath(os.path.expanduser(path))


def local(value: Any) -> Any:
    """Make it absolute when it is the path of something that exists."""
    if isinstance(value, str) and value and os.path.exists(os.path.expanduser(value)):
        return absolute(value)
    return value


def local_mapping(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Make the paths under some keys of a mapping absolute, whether or not they exist."""
    return {key: absolute(value) if key in keys and value else value for key, value in values.items()}


def local_folder(value: str) -> str:
    """Make it absolute when it is the path of a folder that exists."""
    return absolute(value) if os.path.isdir(os.path.expanduser(value)) else value


def local_data(data: dict[str, Any], corpus: str = "") -> dict[str, Any]:
    """Make the paths of a data section absolute, those of its splits and sources too.

    Args:
        data: The section, or a part of it that describes another corpus.
        corpus: What the part has for ``corpus`` when it does not say so itself.
    """
    corpus = data.get("corpus") or corpus
    keys = ("path", "transcripts", "name") if corpus in NAMES_ARE_PLACES else ("path", "transcripts")
    result = {key: local(value) if key in keys else value for key, value in data.items()}
    splits = result.get("splits") or {}
    if splits:
        result["splits"] = {key: local_split(item, corpus) if key in SPLITS else item for key, item in splits.items()}
    if result.get("sources"):
        result["sources"] = [local_data(source) for source in result["sources"]]
    return result


def local_split(split: Any, corpus: str) -> Any:
    """Make the files among a split's names absolute.

    A name such as ``train`` is a split's name even where a folder of that name stands in the working directory, so
    only existing files with a suffix or a separator in their path count.
    """
    if isinstance(split, list):
        return [local_split(item, corpus) for item in split]
    if isinstance(split, dict):
        return local_data(split, corpus)
    path = os.path.expanduser(split)
    is_path = bool(os.path.splitext(path)[1]) or os.sep in path or "/" in path
    return absolute(split) if is_path and os.path.isfile(path) else split
