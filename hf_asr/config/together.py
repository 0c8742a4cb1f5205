"""What only the merged configuration can tell: what is missing, and what excludes what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hf_asr.config.arguments import CORPORA, DataArguments
from hf_asr.config.augmentations import check_augment
from hf_asr.config.kinds import PLACEHOLDER, is_number
from hf_asr.config.names import SCHEDULERS

# Schedules that follow validation.
FOLLOWING = ("plateau", "reduce_lr_on_plateau", "greedy")
# Section, key, and an example for the message.
REQUIRED = (("experiment", "name", "whisper-small-ru"), ("model", "name_or_path", "openai/whisper-small"))


# Of two keys that say the same, the one that a later file or the command line gives replaces the other.
EITHER_OR = (
    ("training.per_device_train_batch_size", "data.batch_seconds"),
    ("evaluation.batch_size", "evaluation.batch_seconds"),
)


def value_at(tree: Mapping[str, Any], path: str) -> Any:
    """Return the value of ``section.key``; None where it is not given."""
    section, key = path.split(".")
    return section_of(tree, section).get(key)


def section_of(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section of a tree that may still be wrong: empty when it is no mapping."""
    values = tree.get(name)
    return values if isinstance(values, dict) else {}


def check_together(tree: Mapping[str, Any]) -> Iterator[str]:
    """Check what only the merged configuration can tell: what is missing and what excludes what."""
    for section, key, example in REQUIRED:
        if section_of(tree, section).get(key) is None:
            yield f"{section}.{key}: required, and nothing gives it. Add it to a file, or say {section}.{key}={example}"
    data = section_of(tree, "data")
    if not data.get("corpus") and not data.get("sources"):
        yield f"data.corpus: expected one of {', '.join(CORPORA)} (or data.sources), found nothing. Give it."
    if data.get("sources") and (data.get("corpus") or data.get("path")):
        yield "data.sources: it stands in place of data.corpus and data.path, found both. Remove one of them."
    default = vars(DataArguments())
    low, high = (data.get(key, default[key]) for key in ("min_seconds", "max_seconds"))
    if is_number(low) and is_number(high) and low >= high:
        yield f"data.max_seconds: expected more than data.min_seconds ({low!r}), found {high!r}."
    training, hub = section_of(tree, "training"), section_of(tree, "hub")
    if training.get("bf16") is True and training.get("fp16") is True:
        yield "training.bf16: expected bf16 or fp16, found both. Set one of them to false."
    if isinstance(training.get("scheduler"), dict) and training["scheduler"].get("name") is None:
        yield f"training.scheduler.name: expected one of {', '.join(SCHEDULERS)}, found nothing. Give it."
    yield from check_schedule(training)
    yield from check_adapting(tree)
    if hub.get("push") is True and not hub.get("repo"):
        yield "hub.push: expected hub.repo (ORG/NAME) beside it, found nothing. Give it."
    if hub.get("push_features") is True and not (hub.get("features_repo") or hub.get("repo")):
        yield "hub.push_features: expected hub.features_repo (ORG/NAME) or hub.repo beside it, found nothing. Give one."
    if data.get("drop_suspicious") is not None and data.get("streaming") is True:
        yield (
            "data.drop_suspicious: expected a training split that can be decoded before training, found "
            "data.streaming. Remove one of them."
        )
    yield from check_pack(tree)
    yield from check_augment(*(section_of(tree, name) for name in ("augment", "data", "features")))
    yield from check_head(section_of(tree, "head"), training)
    yield from check_placeholders(tree, "")


def check_pack(tree: Mapping[str, Any]) -> Iterator[str]:
    """Check what joining clips to windows does not go with."""
    data, model = section_of(tree, "data"), section_of(tree, "model")
    if data.get("pack") is not True:
        return
    window = model.get("window") or "full"
    if data.get("batch_seconds") is not None and window != "full":
        yield (
            f"data.batch_seconds: expected model.window full beside data.pack, found {window}: the lengths of windows "
            "then change with the epoch. Set training.per_device_train_batch_size in its place."
        )
    if section_of(tree, "features").get("bank") == "on":
        yield "features.bank: it keeps the states of single clips, found it on with data.pack. Remove one of them."
    augment = section_of(tree, "augment")
    joined = augment.get("concatenate")
    if augment.get("enabled") is True and isinstance(joined, dict) and joined and joined.get("probability", 1):
        yield "augment.concatenate: data.pack joins clips already, found both. Remove one of them."


def check_head(head: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[str]:
    """Check what a classifier's head needs of the task and of the batches."""
    if head.get("task") == "regression" and head.get("class_weights") == "balanced":
        yield "head.class_weights: expected none beside head.task regression, which has no classes. Remove one of them."
    if head.get("norm") == "batch" and training.get("per_device_train_batch_size") == 1:
        yield (
            "head.norm: batch takes its mean over a batch: expected training.per_device_train_batch_size above 1, "
            "found 1. Set head.norm=layer, or raise it."
        )


def check_schedule(training: Mapping[str, Any]) -> Iterator[str]:
    """Check what a schedule needs of the rest of the training section."""
    scheduler = training.get("scheduler")
    name = scheduler.get("name") if isinstance(scheduler, dict) else scheduler
    if name in FOLLOWING and training.get("eval_strategy") in ("no", False):
        yield (
            f"training.scheduler: {name} lowers the rate when validation gets no better: expected "
            "training.eval_strategy epoch or steps, found no. Set one, or take another schedule."
        )


def check_adapting(tree: Mapping[str, Any]) -> Iterator[str]:
    """Check how freezing, adapters and a quantised base go together."""
    model, freeze, peft = (section_of(tree, name) for name in ("model", "freeze", "peft"))
    adapter = peft.get("method", "none")
    frozen = freeze.get("groups") or freeze.get("last_n_encoder_layers") is not None
    if adapter != "none" and (frozen or freeze.get("unfreeze")):
        yield f"freeze: peft.method {adapter} already freezes the whole model, found both. Remove one of them."
    if peft.get("target_modules") == []:
        yield "peft.target_modules: expected at least one name, found none. Remove the key to take the family's own."
    quantised = model.get("quantization") or "none"
    if quantised != "none" and adapter == "none":
        yield (
            f"model.quantization: expected adapters beside {quantised} (whole numbers of {quantised[0]} bits cannot be "
            "trained), found full fine-tuning. Set peft.method=lora, or model.quantization=none."
        )
    if adapter == "adalora" and (section_of(tree, "training").get("ema") or "off") != "off":
        yield "training.ema: expected off beside peft.method adalora, whose cuts an average undoes. Remove one of them."
    if adapter == "adalora" and model.get("layerdrop"):
        yield (
            "model.layerdrop: expected 0 beside peft.method adalora, which weighs every adapter by its gradient at "
            f"every step, found {model['layerdrop']}. Remove one of them."
        )
    if freeze.get("unfreeze") and adapter == "none":
        yield from check_unfreezing(tree, freeze["unfreeze"], bool(frozen))


def check_unfreezing(tree: Mapping[str, Any], schedule: Any, frozen: bool) -> Iterator[str]:
    """Check that a schedule of epochs has something to unfreeze and epochs to do so."""
    training = section_of(tree, "training")
    if not frozen:
        yield "freeze.unfreeze: expected groups that are frozen at first in freeze.groups, found none. Name them there."
    if isinstance(schedule, dict) and any(str(epoch) == "0" for epoch in schedule):
        yield "freeze.unfreeze: expected epochs from 1 (what is trained from epoch 0 on is not frozen), found 0."
    if section_of(tree, "data").get("streaming") is True:
        yield "freeze.unfreeze: expected data.streaming=false beside it, found true. Remove one of them."
    scheduler = training.get("scheduler")
    if (scheduler.get("name") if isinstance(scheduler, dict) else scheduler) == "greedy":
        yield "training.scheduler: greedy sets the rates of all groups itself: expected another beside freeze.unfreeze."


def check_placeholders(value: Any, path: str) -> Iterator[str]:
    """Tell what was left open with ``???``."""
    if value == PLACEHOLDER:
        yield f"{path}: expected a value, found {PLACEHOLDER}. Give it in a later file or as {path}=..."
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from check_placeholders(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from check_placeholders(item, f"{path}[{number}]")
