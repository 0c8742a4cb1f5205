"""What is wrong with a configuration: every unknown key and unusable value, told at once and with its place.

A check takes plain values as YAML gives them and yields one sentence for each problem; nothing is raised here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any

from hf_asr.config.arguments import (
    COLUMNS,
    CORPORA,
    CORPUS_KEYS,
    METRICS,
    SECTIONS,
    SPLITS,
    DataArguments,
    SourceKeys,
    TrainingKeys,
)
from hf_asr.config.kinds import expected, fits, found, hint, is_mapping, is_number, is_open, is_texts
from hf_asr.config.names import (
    CHECKPOINTING,
    GENERATION,
    GENERATION_BOUNDS,
    LANGUAGES,
    SCHEDULERS,
    TRAINING,
    TRAINING_BOUNDS,
    TRAINING_CHOICES,
)
from hf_asr.config.options import AT_LEAST_1, FINITE, SHARE, Bounds
from hf_asr.config.owners import GENERATION_OWNERS, TRAINING_OWNERS, TRAINING_REMOVED
from hf_asr.config.together import EITHER_OR, value_at

# language[-extlang][-script][-region][-variant], RFC 5646 without extensions and private use.
LANGUAGE_TAG = re.compile(
    r"[a-z]{2,3}(-[a-z]{3}){0,3}(-[a-z]{4})?(-([a-z]{2}|[0-9]{3}))?(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*", re.IGNORECASE
)
# Characters that Windows refuses in a file name, and both separators.
NOT_IN_A_NAME = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def fields_of(section: type[Any]) -> dict[str, Field[Any]]:
    """Return a section's fields by name."""
    return {field.name: field for field in fields(section)}


SECTION_NAMES = (*SECTIONS, "training")
CORPUS_FIELDS = {key: fields_of(DataArguments)[key] for key in CORPUS_KEYS}
SOURCE_FIELDS = CORPUS_FIELDS | fields_of(SourceKeys)
TRAINING_NAMES = (*fields_of(TrainingKeys), *TRAINING)


def check_tree(tree: Mapping[Any, Any]) -> Iterator[str]:
    """Check what one file, or the command line, says.

    Args:
        tree: Section to keys to values, as YAML gives them.

    Yields:
        A sentence for each problem.
    """
    for first, second in EITHER_OR:
        if value_at(tree, first) is not None and value_at(tree, second) is not None:
            yield f"{first}: expected it or {second}, found both. Remove one of them."
    for section, values in tree.items():
        if section not in SECTION_NAMES:
            yield unknown_key("", section, SECTION_NAMES)
        elif values is not None and not isinstance(values, dict):
            yield f"{section}: expected a mapping of keys, found {found(values)}. Write its keys indented below it."
        elif section == "training":
            yield from check_training(values or {})
        else:
            yield from check_section(values or {}, fields_of(SECTIONS[section]), section)


def unknown_key(path: str, key: Any, known: Iterable[str]) -> str:
    """Say that a key does not exist and which one was probably meant."""
    place = f"{path}.{key}" if path else f"{key}"
    if not isinstance(key, str):
        return f"{path or 'top level'}: expected a name as key, found {found(key)}. Quote it if it is meant as a name."
    if "." in key:
        return f"{place}: dots are for the command line; in a file, nest the keys below '{key.split('.')[0]}:'."
    if path.startswith(("data.splits.", "data.sources[")) and key in fields_of(DataArguments):
        return f"{place}: it holds for all clips alike: set data.{key}. Known here: {', '.join(known)}."
    homes = [section for section in SECTION_NAMES if section != path and key in names_of_section(section)]
    names = list(known)
    if homes and not get_close_matches(key, names, n=1, cutoff=0.8):
        return f"{place}: unknown key. The right name is {' or '.join(f'{home}.{key}' for home in homes)}."
    nearest = get_close_matches(key, names, n=1, cutoff=0.0)[0]
    listed = f" Known here: {', '.join(names)}." if len(names) <= 25 else ""
    return f"{place}: unknown key. The nearest right name is '{nearest}'.{listed}"


def names_of_section(section: str) -> tuple[str, ...]:
    """Return the keys of a section."""
    return TRAINING_NAMES if section == "training" else tuple(fields_of(SECTIONS[section]))


def check_section(values: Mapping[Any, Any], known: Mapping[str, Field[Any]], path: str) -> Iterator[str]:
    """Check keys and values of a section.

    Args:
        values: What was written.
        known: The fields that may stand here.
        path: Where it stands, for the message.
    """
    for key, value in values.items():
        if key not in known:
            yield unknown_key(path, key, known)
        elif value is not None and not is_open(value):
            yield from check_field(f"{path}.{key}", value, known[key])


def check_field(path: str, value: Any, field: Field[Any]) -> Iterator[str]:
    """Check one value against its field's type, choices and bounds, then by its own check."""
    rules = field.metadata
    wrong = list(check_value(path, value, str(field.type), rules.get("choices", ()), rules.get("bounds")))
    yield from wrong
    if not wrong and "pair" in rules:
        yield from check_pair(path, value, rules["bounds"])
    if not wrong and "members" in rules:
        yield from check_members(path, value, rules["members"])
    if not wrong and "transform" in rules:
        yield from check_section(value, fields_of(rules["transform"]), path)
    elif not wrong and "check" in rules:
        yield from CHECKS[rules["check"]](path, value)


def check_value(
    path: str, value: Any, kinds: str, choices: tuple[str, ...] = (), bounds: Bounds | None = None
) -> Iterator[str]:
    """Check one value.

    Args:
        path: Where it stands, for the message.
        value: What was written; not null.
        kinds: What may be written, such as ``"int | str"``.
        choices: The texts that may be written; empty for any.
        bounds: The range of a number.
    """
    chosen = not choices or not isinstance(value, str) or value in choices
    inside = bounds is None or not is_number(value) or value in bounds
    if not (fits(value, kinds) and chosen and inside):
        near = get_close_matches(str(value), choices, n=1) if isinstance(value, str) else []
        more = f" Did you mean {near[0]}?" if near else "" if choices else hint(value, kinds)
        yield f"{path}: expected {expected(kinds, choices, bounds)}, found {found(value)}.{more}"


def check_items(path: str, values: Mapping[Any, Any], names: Iterable[str], kinds: str, bounds: Any) -> Iterator[str]:
    """Check a mapping whose values are all of one kind; null values are not given."""
    known = tuple(names)
    for key, value in values.items():
        if key not in known:
            yield unknown_key(path, key, known)
        elif value is not None and not is_open(value):
            yield from check_value(f"{path}.{key}", value, kinds, (), bounds)


def check_folder_name(path: str, value: str) -> Iterator[str]:
    """The name of a run becomes a folder, on every system."""
    plain = value.strip() == value and value not in ("", ".", "..") and not value.endswith(".")
    if not plain or NOT_IN_A_NAME.search(value) or len(value.encode()) > 200:
        yield (
            f'{path}: expected a plain folder name (at most 200 bytes, no / \\ : * ? " < > |, no space or dot at its '
            f"end), found {found(value)}. The folder it stands in is experiment.output_dir."
        )


def check_language(path: str, value: str) -> Iterator[str]:
    """A language is a BCP-47 tag: language, script, region, variant."""
    if LANGUAGE_TAG.fullmatch(value):
        return
    named = LANGUAGES.get(value.strip().lower())
    dashed = value.strip().replace("_", "-")
    suggestion = named or (dashed if LANGUAGE_TAG.fullmatch(dashed) else None)
    write = f"Write {suggestion}." if suggestion else "Write the language's code."
    yield f"{path}: expected a BCP-47 tag such as ru, zh-CN, sv-SE, yue or sr-Latn, found {found(value)}. {write}"


def check_repo(path: str, value: str) -> Iterator[str]:
    """A repository is ORG/NAME."""
    if not HUB_NAME.fullmatch(value):
        yield f"{path}: expected ORG/NAME in letters, digits, '-', '_' and '.', found {found(value)}."


def check_metrics(path: str, value: list[str]) -> Iterator[str]:
    """Metrics are known, each once."""
    for name in value:
        if name not in METRICS:
            near = get_close_matches(name, METRICS, n=1)
            more = f" Did you mean {near[0]}?" if near else ""
            yield f"{path}: expected names among {', '.join(METRICS)}, found '{name}'.{more}"
    if len(set(value)) < len(value):
        yield f"{path}: expected each name once, found {found(value)}."


def check_slices(path: str, value: list[Any]) -> Iterator[str]:
    """A slice is the name of a column, or a mapping of one to rising numbers; each name comes once."""
    names: list[str] = []
    for index, item in enumerate(value):
        if not is_texts([item]) and not is_mapping(item):
            yield f"{path}[{index}]: expected the name of a column, or a mapping to bounds, found {found(item)}."
            continue
        for name, bounds in item.items() if isinstance(item, dict) else [(item, [0])]:
            names.append(name)
            numbers = isinstance(bounds, list) and bounds and all(map(is_number, bounds))
            if not numbers or sorted(set(bounds)) != bounds:
                yield f"{path}[{index}].{name}: expected rising numbers such as [5, 15], found {found(bounds)}."
    if len(set(names)) < len(names):
        yield f"{path}: expected each column once, found {', '.join(names)}."


def check_splits(path: str, value: Mapping[str, Any]) -> Iterator[str]:
    """A split is a name or file, a list of them, or a mapping of data's own keys; held_out says shares."""
    for key, split in value.items():
        place = f"{path}.{key}"
        if key not in (*SPLITS, "held_out"):
            yield unknown_key(path, key, (*SPLITS, "held_out"))
        elif split is None or is_open(split):
            continue
        elif key == "held_out":
            yield from check_held_out(place, split)
        elif isinstance(split, dict):
            yield from check_section(split, CORPUS_FIELDS, place)
        elif not split or not (isinstance(split, str) or fits(split, "list[str]")):
            wanted = "a name or file, a list of them, or a mapping of the data section's keys"
            yield f"{place}: expected {wanted}, found {found(split)}.{hint(split, 'str')}"


def check_held_out(path: str, value: Any) -> Iterator[str]:
    """What is carved from train: shares of it, and by what."""
    if not isinstance(value, dict):
        yield f"{path}: expected a mapping such as {{validation: 0.05, test: 0, by: speaker}}, found {found(value)}."
        return
    lists = {key: names for key, names in value.items() if key in ("validation", "test") and isinstance(names, list)}
    for key, names in lists.items():
        if not names or not all(isinstance(name, str) for name in names):
            yield f'{path}.{key}: expected speakers as quoted texts, such as ["03", "08"], found {found(names)}.'
    shares = {key: share for key, share in value.items() if key not in ("by", *lists)}
    wrong = list(check_items(path, shares, ("validation", "test"), "float", SHARE))
    yield from (
        problem.replace("Known here: validation, test.", "Known here: validation, test, by.") for problem in wrong
    )
    if value.get("by") is not None:
        yield from check_value(f"{path}.by", value["by"], "str", ("speaker", "id"))
    if not wrong and sum(share for share in shares.values() if is_number(share)) >= 1:
        yield f"{path}: expected shares that leave something to train on (a sum below 1), found {found(value)}."


def check_sources(path: str, value: list[dict[str, Any]]) -> Iterator[str]:
    """Each source names its corpus; all have a weight, or none has."""
    for number, source in enumerate(value):
        place = f"{path}[{number}]"
        yield from check_section(source, SOURCE_FIELDS, place)
        if not source.get("corpus"):
            yield f"{place}.corpus: expected one of {', '.join(CORPORA)}, found nothing. Every source names its corpus."
    weighted = sum(source.get("weight") is not None for source in value)
    if not value:
        yield f"{path}: expected at least one source, found an empty list. Add one, or remove the key."
    elif weighted not in (0, len(value)):
        yield f"{path}: expected a weight for every source or for none, found {weighted} in {len(value)}."


def check_training(values: Mapping[Any, Any]) -> Iterator[str]:
    """Check the training section: the Trainer's names and ours."""
    own = fields_of(TrainingKeys)
    for key, value in values.items():
        path = f"training.{key}"
        if key in TRAINING_REMOVED:
            yield f"{path}: transformers has no such key any more: {TRAINING_REMOVED[key]}."
        elif key in TRAINING_OWNERS:
            yield f"{path}: this setting has another owner: {TRAINING_OWNERS[key]}."
        elif key not in TRAINING_NAMES:
            yield unknown_key("training", key, TRAINING_NAMES)
        elif value is None or is_open(value):
            continue
        elif key in own:
            yield from check_field(path, value, own[key])
        else:
            yield from check_value(path, value, TRAINING[key], TRAINING_CHOICES.get(key, ()), TRAINING_BOUNDS.get(key))
            if key in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs") and isinstance(value, dict):
                yield from (unknown_key(path, name, CHECKPOINTING) for name in value if name not in CHECKPOINTING)


def check_scheduler(path: str, value: str | dict[str, Any]) -> Iterator[str]:
    """A scheduler is a name, or a mapping of its name and what that schedule takes; another file may give the name."""
    name = value if isinstance(value, str) else value.get("name")
    known = ("name", *SCHEDULERS.get(str(name), sorted({key for keys in SCHEDULERS.values() for key in keys})))
    if name is not None and not is_open(name):
        yield from check_value(f"{path}.name", name, "str", tuple(SCHEDULERS))
    if isinstance(value, dict):
        yield from (unknown_key(path, key, known) for key in value if key not in known)


def check_generation(path: str, value: Mapping[str, Any]) -> Iterator[str]:
    """Check names of GenerationConfig."""
    for key, item in value.items():
        place = f"{path}.{key}"
        if key in GENERATION_OWNERS:
            yield f"{place}: this setting has another owner: {GENERATION_OWNERS[key]}."
        elif key not in GENERATION:
            yield unknown_key(path, key, GENERATION)
        elif item is not None and not is_open(item):
            yield from check_value(place, item, GENERATION[key], (), GENERATION_BOUNDS.get(key))


def check_columns(path: str, value: Mapping[str, Any]) -> Iterator[str]:
    """Columns are texts by our names for them."""
    yield from check_items(path, value, COLUMNS, "str", None)


def check_limit(path: str, value: Mapping[str, Any]) -> Iterator[str]:
    """Limits are whole numbers by split."""
    yield from check_items(path, value, SPLITS, "int", AT_LEAST_1)


def check_learning_rates(path: str, value: Mapping[str, Any]) -> Iterator[str]:
    """Learning rates are numbers by group; which groups there are, the family knows."""
    yield from check_items(path, value, value, "float", FINITE)


def check_pair(path: str, value: list[float], bounds: Bounds | None) -> Iterator[str]:
    """A range is its lower and its upper end, which may be equal."""
    inside = bounds is None or all(number in bounds for number in value)
    if len(value) != 2 or value[0] > value[1] or not inside:
        limits = f", each {bounds}" if bounds else ""
        yield f"{path}: expected a range [low, high]{limits}, found {found(value)}."


def check_members(path: str, value: list[str], members: tuple[str, ...]) -> Iterator[str]:
    """A list of names among those that there are."""
    for name in value:
        if name not in members:
            near = get_close_matches(name, members, n=1)
            more = f" Did you mean {near[0]}?" if near else ""
            yield f"{path}: expected names among {', '.join(members)}, found '{name}'.{more}"


def check_scales(path: str, value: list[int]) -> Iterator[str]:
    """Scales are numbers of frames, each once."""
    if not value or min(value) < 1 or len(set(value)) < len(value):
        yield f"{path}: expected whole numbers of at least 1, each once, such as [1, 2, 4], found {found(value)}."


def check_unfreeze(path: str, value: Mapping[Any, Any]) -> Iterator[str]:
    """Epochs are whole numbers, their groups lists that are not empty; which groups there are, the family knows."""
    for epoch, groups in value.items():
        if not groups:
            yield f"{path}.{epoch}: expected groups that are trained from epoch {epoch} on, found none. Name some."


CHECKS: dict[str, Callable[[str, Any], Iterator[str]]] = {
    "folder_name": check_folder_name,
    "language": check_language,
    "repo": check_repo,
    "metrics": check_metrics,
    "slices": check_slices,
    "splits": check_splits,
    "sources": check_sources,
    "columns": check_columns,
    "limit": check_limit,
    "learning_rates": check_learning_rates,
    "scales": check_scales,
    "unfreeze": check_unfreeze,
    "scheduler": check_scheduler,
    "generation": check_generation,
}
