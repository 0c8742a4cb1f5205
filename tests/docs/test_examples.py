"""Every example runs as it stands and says what it promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PROMISES = {"compare_two_systems.py": ("before: WER 0.278", "after: WER 0.111", "significant")}


def test_every_example_is_run(project_root: Path) -> None:
    assert {path.name for path in (project_root / "examples").glob("*.py")} == set(PROMISES)


@pytest.mark.parametrize("name", PROMISES)
def test_it_runs(name: str, project_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(project_root / "examples" / name), run_name="__main__")
    shown = capsys.readouterr().out
    assert [words for words in PROMISES[name] if words not in shown] == []
