"""evaluation.slices: names of columns, and mappings to bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_asr.config.parser import load_arguments
from hf_asr.errors import UserError

CONFIG = {"experiment": {"name": "x"}, "model": {"name_or_path": "m"}, "data": {"corpus": "manifest", "path": "p"}}


def loaded(folder: Path, slices: Any) -> list[Any]:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"evaluation": {"slices": slices}}))
    return list(load_arguments([path]).evaluation.slices)


@pytest.mark.parametrize("slices", [[], ["gender", "age"], ["gender", {"duration": [5, 15], "snr": [10.5]}]])
def test_slices_are_read_as_written(slices: list[Any], tmp_path: Path) -> None:
    assert loaded(tmp_path, slices) == slices


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ("gender", "expected a list"),
        ([3], r"slices\[0\]: expected the name of a column, or a mapping to bounds, found the number 3"),
        ([{"duration": []}], r"slices\[0\].duration: expected rising numbers such as \[5, 15\]"),
        ([{"duration": [15, 5]}], "expected rising numbers"),
        ([{"duration": ["5"]}], "expected rising numbers"),
        ([{"duration": 5}], "expected rising numbers"),
        (["gender", {"gender": [1]}], "expected each column once"),
    ],
)
def test_other_slices_are_refused(slices: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        loaded(tmp_path, slices)
