from __future__ import annotations

import math

import pytest

from hf_asr.config.kinds import expected, fits, found, hint, is_open, tidy


@pytest.mark.parametrize(
    ("value", "kinds", "answer"),
    [
        (5, "int", True),
        (1e3, "int", True),
        (10**400, "int", True),
        (1.5, "int", False),
        (math.inf, "int", False),
        (True, "int", False),
        (True, "float", False),
        (math.nan, "float", False),
        (math.inf, "float", True),
        (3, "float", True),
        ("3", "float", False),
        ("auto", "int | str", True),
        (None, "str | None", False),
        (["a"], "list[str]", True),
        (["a", False], "list[str]", False),
        ("a", "list[str]", False),
        ({"a": 1}, "dict[str, Any]", True),
        ({1: 1}, "dict[str, Any]", False),
        ({"a": True}, "dict[str, bool]", True),
        ({"a": 1}, "dict[str, bool]", False),
        ([1, 2.0], "list[int]", True),
        ([1.5], "list[int]", False),
        ([1.5, 2], "list[float]", True),
        ([[1], [2]], "list[list[int]]", True),
        ([[1.5]], "list[list[int]]", False),
        ([[1, "a"]], "list[list[Any]]", True),
        ([{"a": 1}], "list[dict[str, Any]]", True),
        ([1], "list[dict[str, Any]]", False),
    ],
)
def test_fits(value: object, kinds: str, answer: bool) -> None:
    assert fits(value, kinds) is answer


@pytest.mark.parametrize(
    ("value", "kinds", "tidied"),
    [(1e3, "int", 1000), (1e3, "int | str", 1000), (1e3, "float", 1e3), (2, "float", 2), ("auto", "int | str", "auto")],
)
def test_whole_numbers_become_int_where_only_they_are_allowed(value: object, kinds: str, tidied: object) -> None:
    result = tidy(value, kinds)
    assert result == tidied
    assert type(result) is type(tidied)


def test_expected_names_every_choice_and_the_range() -> None:
    assert expected("str", ("a", "b", "c")) == "one of a, b, c"
    assert expected("int | str | None", ("auto",), "at least 0") == "a whole number (at least 0) or auto"
    assert expected("str | list[str]") == "a text or a list of texts"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (False, "false"),
        (3, "the number 3"),
        ("a", "'a'"),
        ("x" * 300, "'" + "x" * 200 + "...'"),
        ([1, 2, 3, 4, 5, 6], "a list (1, 2, 3, 4, 5, ...)"),
        ({"a": 1, "b": 2}, "a mapping (a, b)"),
        (b"a", "b'a'"),
    ],
)
def test_found_says_what_was_written(value: object, text: str) -> None:
    assert found(value) == text


@pytest.mark.parametrize(
    ("value", "kinds", "part"),
    [(False, "str", "no, off, yes or on"), (7, "str | None", "'\"7\"'"), ({}, "str", "Quote it")],
)
def test_hint_says_how_to_quote(value: object, kinds: str, part: str) -> None:
    assert part in hint(value, kinds)


@pytest.mark.parametrize(("value", "kinds"), [(False, "int"), ("a", "str"), ([1], "list[str]")])
def test_no_hint_where_quotes_do_not_help(value: object, kinds: str) -> None:
    assert hint(value, kinds) == ""


@pytest.mark.parametrize(("value", "answer"), [("???", True), ("a${b}", True), ("a", False), (3, False)])
def test_open_values_are_left_for_later(value: object, answer: bool) -> None:
    assert is_open(value) is answer
