"""What a YAML value may be, told by the type's name: ``fits(5, "int | str")``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

# OmegaConf's mark for "to be given later".
PLACEHOLDER = "???"


def is_number(value: Any) -> bool:
    """Tell whether it is a number; a truth value is none, and neither is nan."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def is_whole(value: Any) -> bool:
    """Tell whether it is a whole number; 1e3, which YAML reads as 1000.0, is one."""
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def is_texts(value: Any) -> bool:
    """Tell whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_list_of_whole(value: Any) -> bool:
    """Tell whether it is a list of whole numbers."""
    return isinstance(value, list) and all(is_whole(item) for item in value)


def is_mapping(value: Any) -> bool:
    """Tell whether it is a mapping with texts as keys."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def is_lists_by_number(value: Any) -> bool:
    """Tell whether it is a mapping of whole numbers (a command line gives them as texts) to lists of texts."""
    return isinstance(value, dict) and all(str(key).isdigit() and is_texts(item) for key, item in value.items())


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", is_whole),
    "float": ("a number", is_number),
    "str": ("a text", lambda value: isinstance(value, str)),
    "list[str]": ("a list of texts", is_texts),
    "list[int]": ("a list of whole numbers", is_list_of_whole),
    "list[float]": ("a list of numbers", lambda value: isinstance(value, list) and all(map(is_number, value))),
    "list[list[int]]": (
        "a list of lists of whole numbers",
        lambda value: isinstance(value, list) and all(map(is_list_of_whole, value)),
    ),
    "list[Any]": ("a list", lambda value: isinstance(value, list)),
    "list[list[Any]]": (
        "a list of lists",
        lambda value: isinstance(value, list) and all(isinstance(item, list) for item in value),
    ),
    "list[dict[str, Any]]": (
        "a list of mappings",
        lambda value: isinstance(value, list) and all(map(is_mapping, value)),
    ),
    "dict[str, Any]": ("a mapping", is_mapping),
    "dict[str, str]": ("a mapping to texts", is_mapping),
    "dict[str, int]": ("a mapping to whole numbers", is_mapping),
    "dict[str, float]": ("a mapping to numbers", is_mapping),
    "dict[int, list[str]]": ("a mapping of whole numbers to lists of texts", is_lists_by_number),
    "dict[str, bool]": (
        "a mapping to true or false",
        lambda value: is_mapping(value) and all(isinstance(item, bool) for item in value.values()),
    ),
}


def split_kinds(kinds: str) -> list[str]:
    """Split ``"int | str | None"``; None is left out, because null always means "not given"."""
    return [kind for kind in kinds.split(" | ") if kind != "None"]


def fits(value: Any, kinds: str) -> bool:
    """Tell whether ``value`` is of one of the kinds."""
    return any(KINDS[kind][1](value) for kind in split_kinds(kinds))


def expected(kinds: str, choices: Sequence[str] = (), bounds: object = None) -> str:
    """Say in words what may be written.

    Args:
        kinds: Such as ``"int | str"``.
        choices: The texts that may be written; empty for any.
        bounds: The range of a number, or None.
    """
    words = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    numbers = f" ({bounds})" if bounds is not None else ""
    parts = []
    for kind in split_kinds(kinds):
        if kind == "str" and choices:
            parts.append(words)
        else:
            parts.append(KINDS[kind][0] + (numbers if kind in ("int", "float") else ""))
    return " or ".join(parts)


def hint(value: Any, kinds: str) -> str:
    """Say what to do when YAML has made something else of what was meant as a text."""
    if "str" not in split_kinds(kinds) or not isinstance(value, bool | int | float | dict):
        return ""
    if isinstance(value, bool):
        why = " YAML reads an unquoted no, off, yes or on as false or true."
        return f"""{why} Quote the word: "no" in a file, '"no"' on the command line."""
    word = value if isinstance(value, int | float) else "a: b"
    return f""" Quote it, if it is meant as a text: "{word}" in a file, '"{word}"' on the command line."""


def tidy(value: Any, kinds: str) -> Any:
    """Return ``value`` as the program takes it: 1000.0 becomes 1000 where only a whole number is allowed."""
    if kinds == "dict[int, list[str]]":
        return {int(key): item for key, item in value.items()}
    whole_only = "int" in split_kinds(kinds) and "float" not in split_kinds(kinds)
    return int(value) if whole_only and is_number(value) else value


def found(value: Any) -> str:
    """Say in words what was written."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value!r}"
        case str():
            return f"'{value}'" if len(value) <= 200 else f"'{value[:200]}...'"
        case list():
            return f"a list ({some(value)})"
        case dict():
            return f"a mapping ({some(list(value))})"
        case _:
            return f"{value!r}"


def some(items: list[Any]) -> str:
    """Write the first five items, each cut to 60 characters."""
    return ", ".join([*(str(item)[:60] for item in items[:5]), *(["..."] if len(items) > 5 else [])])


def is_open(value: Any) -> bool:
    """Tell whether it gets its value only when all files are merged: a placeholder or an interpolation."""
    return isinstance(value, str) and (value == PLACEHOLDER or "${" in value)
