"""docs/extending.md is true: its blocks are applied to a copy of the repository as they stand, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

KEPT = ("hf_asr", "recipes", "tests", "pyproject.toml", "setup.cfg")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"`([\w/.]+\.(?:py|yaml))`:\s*$")
STEPS = {"Add a family in five steps": 5, "Add a corpus in four steps": 4, "Add a metric in four steps": 4}


@dataclass(frozen=True)
class Block:
    """A block of the page: its kind, its text, and the file that the sentence before it (or an earlier one) names."""

    kind: str
    text: str
    path: str


def blocks_of(section: str) -> list[Block]:
    found, end, path = [], 0, ""
    for match in BLOCK.finditer(section):
        named = NAMED.search(section[end : match.start()])
        path, end = named[1] if named else path, match.end()
        found.append(Block(match[1], match[2], path))
    return found


def section_of(project_root: Path, title: str) -> str:
    page = (project_root / "docs" / "extending.md").read_text(encoding="utf-8")
    return page.partition(f"## {title}\n")[2].partition("\n## ")[0]


def changed(text: str, diff: str) -> str:
    """Apply a block of diff: lines that stay and go must be there once."""
    lines = diff.splitlines()
    before = "\n".join(line[1:] for line in lines if line[0] in " -")
    after = "\n".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(before) == 1, f"expected once: {before}"
    return text.replace(before, after)


def apply(block: Block, root: Path) -> None:
    file = root / block.path
    if block.kind == "sh":
        run(block.text, root)
    elif block.kind == "diff":
        file.write_text(changed(file.read_text(encoding="utf-8"), block.text), encoding="utf-8")
    else:
        assert not file.exists(), f"{block.path} is there already"
        file.write_text(block.text, encoding="utf-8")


def run(command: str, root: Path) -> None:
    """Run a command of the page in the copy, which comes before the installed package."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    own = "python -c 'import hf_asr, sys; sys.exit(not hf_asr.__file__.startswith(sys.argv[1]))' ."
    for line in (own.replace(" .", f" {root}"), command):
        done = subprocess.run(line, shell=True, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "skipped" not in done.stdout or "passed" in done.stdout


@pytest.mark.parametrize("title", STEPS)
def test_it_has_the_steps_that_it_promises(project_root: Path, title: str) -> None:
    numbers = re.findall(r"^\*\*(\d)\.\*\*", section_of(project_root, title), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, STEPS[title] + 1))


@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=() if "metric" in title else pytest.mark.slow) for title in STEPS]
)
def test_it_works_as_written(project_root: Path, tmp_path: Path, title: str) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in KEPT:
        source = project_root / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    blocks = blocks_of(section_of(project_root, title))
    assert blocks[-1].kind == "sh"
    for block in blocks:
        apply(block, tmp_path)
