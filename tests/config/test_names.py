"""The generated lists are those of the installed libraries: a new release of transformers fails here, by name."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from typing import Any

import pytest
import torch.optim.lr_scheduler
import torch.utils.checkpoint
from transformers import (
    GenerationConfig,
    Seq2SeqTrainingArguments,
    WhisperForConditionalGeneration,
    optimization,
    trainer_utils,
    training_args,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPER_LANGUAGES

from hf_asr.config import arguments, names
from hf_asr.config.arguments import TrainingKeys
from hf_asr.config.checks import names_of_section
from hf_asr.config.owners import GENERATION_OWNERS, TRAINING_OWNERS, TRAINING_REMOVED

INSTALLED = {field.name: field for field in dataclasses.fields(Seq2SeqTrainingArguments)}
OURS = {field.name for field in dataclasses.fields(TrainingKeys)}
# Written by transformers itself when a GenerationConfig is saved.
BOOKKEEPING = {"_from_model_config", "transformers_version"}
# Arguments of Whisper's generate that GenerationConfig does not declare.
# Schedules without those of ours: torch's one-cycle, and shorter names of theirs.
THEIR_SCHEDULERS = [name for name in names.SCHEDULERS if name not in ("one_cycle", "plateau", "wsd")]
WHISPER_ONLY = {"return_timestamps", "return_token_timestamps", "language", "task", "forced_decoder_ids"}


def kinds_of(declared: Any) -> set[str]:
    """Write a declared type as our lists do: enumerations are texts, None is left out."""
    text = declared.__name__ if isinstance(declared, type) else str(declared)
    text = re.sub(r"^typing\.Union\[(.*)\]$", lambda match: match.group(1).replace(", ", " | "), text)
    text = text.replace("typing.Literal[False]", "bool").replace(
        "list[transformers.debug_utils.DebugOption]", "list[str]"
    )
    text = re.sub(r"transformers\.\w+\.\w+", "str", text).replace("typing.Any", "Any")
    text = re.sub(r"\bdict\b(?!\[)", "dict[str, Any]", text)
    return set(text.split(" | ")) - {"None", "NoneType"}


def test_training_names_are_the_installed_ones() -> None:
    ours = set(names.TRAINING) | set(TRAINING_OWNERS) | {"resume_from_checkpoint"}
    assert set(INSTALLED) == ours
    assert not set(names.TRAINING) & set(TRAINING_OWNERS)
    assert not OURS & set(names.TRAINING)


@pytest.mark.parametrize("name", names.TRAINING)
def test_training_types_are_the_installed_ones(name: str) -> None:
    assert set(names.TRAINING[name].split(" | ")) == kinds_of(INSTALLED[name].type)


def test_removed_names_are_really_gone() -> None:
    assert not set(TRAINING_REMOVED) & set(INSTALLED)


def test_what_an_owner_says_names_keys_that_exist() -> None:
    sections = {"experiment", "model", "data", "evaluation", "training", "hub"}
    texts = [*TRAINING_OWNERS.values(), *TRAINING_REMOVED.values(), *GENERATION_OWNERS.values()]
    mentioned = {
        key for text in texts for key in re.findall(r"\b([a-z]+\.[a-z_0-9]+)", text) if key.split(".")[0] in sections
    }
    assert mentioned
    assert not [key for key in mentioned if key.split(".")[1] not in names_of_section(key.split(".")[0])]


def values_of(enumeration: Any) -> list[str]:
    return [item.value for item in enumeration]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (names.OPTIMIZERS, values_of(training_args.OptimizerNames)),
        (names.LOG_LEVELS, list(training_args.trainer_log_levels)),
        (names.TRAINING_CHOICES["eval_strategy"], values_of(trainer_utils.IntervalStrategy)),
        (names.TRAINING_CHOICES["logging_strategy"], values_of(trainer_utils.IntervalStrategy)),
        (names.TRAINING_CHOICES["save_strategy"], values_of(trainer_utils.SaveStrategy)),
        (THEIR_SCHEDULERS, [kind.value for kind in optimization.TYPE_TO_SCHEDULER_FUNCTION]),
        (THEIR_SCHEDULERS, values_of(trainer_utils.SchedulerType)),
    ],
)
def test_choices_are_the_installed_ones(ours: Any, theirs: list[str]) -> None:
    assert sorted(ours) == sorted(theirs)


def test_sampling_strategies_are_among_the_installed_ones() -> None:
    choices = INSTALLED["train_sampling_strategy"].metadata["choices"]
    assert set(names.TRAINING_CHOICES["train_sampling_strategy"]) < set(choices)


@pytest.mark.parametrize(
    ("name", "function"), [(kind.value, function) for kind, function in optimization.TYPE_TO_SCHEDULER_FUNCTION.items()]
)
def test_schedules_take_what_the_installed_ones_take(name: str, function: Any) -> None:
    filled_in = {"self", "optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "kwargs"}
    wrapped = {"greedy": optimization.GreedyLR, "reduce_lr_on_plateau": torch.optim.lr_scheduler.ReduceLROnPlateau}
    taken = set(inspect.signature(wrapped.get(name, function)).parameters) - filled_in
    assert set(names.SCHEDULERS[name]) == taken


def test_checkpointing_keys_are_the_installed_ones() -> None:
    taken = set(inspect.signature(torch.utils.checkpoint.checkpoint).parameters)
    assert set(names.CHECKPOINTING) == taken - {"function", "args", "kwargs", "context_fn"}


def test_generation_names_are_the_installed_ones() -> None:
    declared = set(vars(GenerationConfig())) - BOOKKEEPING
    assert declared == (set(names.GENERATION) - set(names.FALLBACK)) | (set(GENERATION_OWNERS) - WHISPER_ONLY)
    assert not set(names.GENERATION) & set(GENERATION_OWNERS)


def test_names_of_the_fallback_are_whispers_own() -> None:
    assert set(names.FALLBACK) <= set(names.GENERATION)
    assert set(names.FALLBACK) <= set(inspect.signature(WhisperForConditionalGeneration.generate).parameters)


def documented_kinds(name: str) -> set[str]:
    """Return the simple types that GenerationConfig's docstring gives a name; empty when it has none or others."""
    entry = re.search(rf"^ +{name}:? *\((.*?)\):", GenerationConfig.__doc__ or "", re.MULTILINE)
    kinds = set(re.findall(r"`(\w+)`", entry.group(1).split(", *optional*")[0])) if entry else set()
    return kinds if kinds <= {"int", "float", "bool", "str", "dict"} else set()


DOCUMENTED = {name: kinds for name in names.GENERATION if (kinds := documented_kinds(name))}


def test_most_generation_types_are_documented() -> None:
    assert len(DOCUMENTED) > 0.7 * len(names.GENERATION)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_generation_types_are_the_documented_ones(name: str) -> None:
    ours = {kind.split("[")[0] for kind in names.GENERATION[name].split(" | ")}
    assert ours - {"list"} == DOCUMENTED[name]


def test_languages_are_the_tokenizers() -> None:
    assert {code: name for name, code in names.LANGUAGES.items()} == WHISPER_LANGUAGES


@pytest.mark.parametrize(
    ("ours", "module", "attribute"),
    [
        (arguments.TEXT_PIPELINES, "hf_asr.text", "TEXT_PIPELINES"),
        (arguments.CORPORA, "hf_asr.data.corpora", "CORPORA"),
        (arguments.METRICS, "hf_asr.evaluation.metrics", "METRICS"),
        (arguments.DTYPES[1:], "hf_asr.inference.generate", "DTYPES"),
    ],
)
def test_choices_are_those_of_the_module_that_uses_them(ours: tuple[str, ...], module: str, attribute: str) -> None:
    assert set(ours) == set(vars(importlib.import_module(module))[attribute])


def test_attention_choices_are_the_installed_ones() -> None:
    local = {name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if "|" not in name}
    assert set(arguments.ATTENTION) == local | {"eager"}


def test_bounds_and_choices_stand_beside_a_name() -> None:
    assert set(names.TRAINING_BOUNDS) | set(names.TRAINING_CHOICES) | set(names.WORDS_FOR_BOOLEANS["training"]) - {
        "ema"
    } <= set(names.TRAINING)
    assert set(names.GENERATION_BOUNDS) <= set(names.GENERATION)


def test_the_installed_defaults_are_inside_our_bounds() -> None:
    for name, bounds in names.TRAINING_BOUNDS.items():
        default = INSTALLED[name].default
        assert default is None or default in bounds, name
