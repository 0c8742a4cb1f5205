from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from hf_asr.config.arguments import (
    AT_LEAST_0,
    CORPUS_KEYS,
    POSITIVE,
    SECTIONS,
    SHARE,
    Arguments,
    Bounds,
    DataArguments,
    ExperimentArguments,
    ModelArguments,
    SourceKeys,
    TrainingKeys,
)
from hf_asr.config.checks import CHECKS
from hf_asr.config.kinds import KINDS, fits, split_kinds

ALL_FIELDS = [
    pytest.param(name, field, id=f"{name}.{field.name}")
    for name, section in {**SECTIONS, "source": SourceKeys, "training": TrainingKeys}.items()
    for field in fields(section)
]


@pytest.mark.parametrize(("name", "field"), ALL_FIELDS)
def test_every_field_is_documented_and_checkable(name: str, field: Any) -> None:
    assert field.metadata["help"].endswith(".")
    assert all(kind in KINDS for kind in split_kinds(str(field.type)))
    assert field.metadata.get("check", "language") in CHECKS


@pytest.mark.parametrize(("name", "field"), ALL_FIELDS)
def test_defaults_pass_their_own_checks(name: str, field: Any) -> None:
    default = field.default
    if default is MISSING and field.default_factory is MISSING:
        assert (name, field.name) in (("experiment", "name"), ("model", "name_or_path"))
        return
    value = field.default_factory() if default is MISSING else default
    if value is None or (name, field.name) == ("data", "corpus"):
        return
    assert fits(value, str(field.type))
    choices = field.metadata.get("choices")
    assert not choices or not isinstance(value, str) or value in choices
    bounds = field.metadata.get("bounds")
    assert bounds is None or isinstance(value, str) or value in bounds


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        (AT_LEAST_0, [0, 5], [-1], "at least 0"),
        (POSITIVE, [1e-9], [0, -1], "more than 0"),
        (SHARE, [0, 0.99], [1, -0.1], "at least 0 and less than 1"),
        (Bounds(0, 1), [0, 1], [1.01], "at least 0 and at most 1"),
    ],
)
def test_bounds(bounds: Bounds, inside: list[float], outside: list[float], words: str) -> None:
    assert all(value in bounds for value in inside)
    assert not any(value in bounds for value in outside)
    assert str(bounds) == words


def test_run_dir_is_output_dir_and_name() -> None:
    arguments = Arguments(ExperimentArguments("a", output_dir="there"), ModelArguments("openai/whisper-tiny"))
    assert arguments.run_dir == Path("there") / "a"


def test_two_configurations_share_no_lists_or_mappings() -> None:
    one, two = DataArguments(), DataArguments()
    one.splits["test"] = "dev"
    assert two.splits == {}


def test_corpus_keys_are_keys_of_the_data_section() -> None:
    assert set(CORPUS_KEYS) <= {field.name for field in fields(DataArguments)}
