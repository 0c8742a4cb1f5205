"""What only the merged configuration can tell: what is missing, and what excludes what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hf_asr.config.arguments import CORPORA, DataArguments
from hf_asr.config.kinds import PLACEHOLDER, is_number
from hf_asr.config.names import SCHEDULERS

# Section, key, and an example for the message.
REQUIRED = (("experiment", "name", "whisper-small-ru"), ("model", "name_or_path", "openai/whisper-small"))


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
    freeze, adapter = section_of(tree, "freeze"), section_of(tree, "peft").get("method", "none")
    if adapter != "none" and (freeze.get("groups") or freeze.get("last_n_encoder_layers") is not None):
        yield f"freeze: peft.method {adapter} already freezes the whole model, found both. Remove one of them."
    if hub.get("push") is True and not hub.get("repo"):
        yield "hub.push: expected hub.repo (ORG/NAME) beside it, found nothing. Give it."
    yield from check_placeholders(tree, "")


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
