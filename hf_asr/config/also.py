"""What ``evaluation.also``, its limits and long form may say, checked once all files are merged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from typing import Any

from hf_asr.config.arguments import TEXT_PIPELINES
from hf_asr.config.checks import CORPUS_FIELDS, check_section, unknown_key
from hf_asr.config.kinds import found, is_number
from hf_asr.config.options import AT_LEAST_1, option
from hf_asr.config.together import section_of

BUILTIN = "builtin"
# The name becomes a folder and a key on the command line.
SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


@dataclass
class SetKeys:
    """What a set of evaluation.also says beside the keys of a corpus."""

    normalizer: str | None = option(None, "Its own text pipeline of the scoring side.", choices=TEXT_PIPELINES)
    limit: int | None = option(None, "How many of its clips are scored: the first ones.", bounds=AT_LEAST_1)


OWN_FIELDS: dict[str, Field[Any]] = {field.name: field for field in fields(SetKeys)}
SET_FIELDS = CORPUS_FIELDS | OWN_FIELDS


def check_also(tree: Mapping[str, Any]) -> Iterator[str]:
    """Check the sets that are scored beside the test split, and their limits.

    Args:
        tree: The merged configuration.

    Yields:
        A sentence for each problem.
    """
    evaluation = section_of(tree, "evaluation")
    sets, limits = (evaluation.get(key) or {} for key in ("also", "also_limits"))
    if not isinstance(sets, dict) or not isinstance(limits, dict):
        return  # told by the section's own check
    for name, item in sets.items():
        yield from _check_set(name, item)
    for name, limit in limits.items():
        yield from _check_limit(name, limit, sets)
    if limits and evaluation.get("baseline") is False:
        yield (
            "evaluation.also_limits: expected evaluation.baseline=true, since a limit is what may be lost against the "
            "untouched model, found false. Remove one of them."
        )


def check_long_form(tree: Mapping[str, Any]) -> Iterator[str]:
    """Check what only decoding of whole recordings reads."""
    evaluation = section_of(tree, "evaluation")
    method = evaluation.get("long_form")
    if evaluation.get("prompt") and method is None:
        yield "evaluation.prompt: expected evaluation.long_form beside it, found none. Set it to sequential or chunked."
    if evaluation.get("condition_on_previous_text") is True and method != "sequential":
        yield (
            "evaluation.condition_on_previous_text: expected evaluation.long_form: sequential, whose windows follow "
            f"each other, found {found(method)}. Remove one of them."
        )


def _check_set(name: str, item: Any) -> Iterator[str]:
    path = f"evaluation.also.{name}"
    if not SET_NAME.fullmatch(name):
        yield f"{path}: expected a name of letters, digits, '_' and '-', for a folder, found {found(name)}. Rename it."
    if isinstance(item, dict):
        yield from check_section(item, SET_FIELDS, path)
        if not item:
            yield f"{path}: expected a corpus, such as {{corpus: manifest, path: clips.csv}}, found nothing. Give it."
    elif item != BUILTIN:
        near = " Did you mean builtin?" if isinstance(item, str) and get_close_matches(item.lower(), [BUILTIN]) else ""
        yield f"{path}: expected {BUILTIN}, or a mapping of the data section's keys, found {found(item)}.{near}"


def _check_limit(name: str, limit: Any, sets: Mapping[str, Any]) -> Iterator[str]:
    path = f"evaluation.also_limits.{name}"
    if name not in sets:
        known = unknown_key("evaluation.also_limits", name, sets) if sets else f"{path}: no set of that name."
        yield f"{known} Limits are for the sets of evaluation.also."
    elif not is_number(limit) or not 0 <= limit < float("inf"):
        yield f"{path}: expected points of at least 0, such as 2.0, found {found(limit)}."
