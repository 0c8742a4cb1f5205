"""docs/models.md names every family with its recipe, and its memory table is the script's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hf_asr.models import FAMILIES


@pytest.fixture
def page(project_root: Path) -> str:
    """The page."""
    return (project_root / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_stands_with_its_recipe(page: str, name: str) -> None:
    [line] = [line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
    assert f"`{FAMILIES[name].recipe}.py`" in line


def test_every_table_is_whole(page: str) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_every_size_has_its_memory(page: str) -> None:
    for size in ("tiny", "base", "small", "medium", "large-v3", "large-v3-turbo"):
        for way in ("full", "frozen encoder", "LoRA, bf16 base"):
            assert len(re.findall(rf"^\| {size} \| {way} \| [\d.]+ GiB ", page, re.MULTILINE)) == 1


def test_commands_are_there(page: str, project_root: Path) -> None:
    scripts = re.findall(r"python (benchmarks/\w+\.py)", page)
    assert len(scripts) == 2 and all((project_root / script).is_file() for script in scripts)
