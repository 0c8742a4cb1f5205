"""The code in docs/python_api.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper


def blocks(project_root: Path) -> list[str]:
    text = (project_root / "docs" / "python_api.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_the_recipe_in_python(
    project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    yaml = tiny_yaml(
        tmp_path, make_tiny_whisper(tmp_path / "model"), make_tiny_corpus(tmp_path / "corpus"), max_steps=2
    )
    yaml.rename(tmp_path / "my.yaml")
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks(project_root)[0], "python_api.md", "exec"), {"__name__": "python_api"})
    assert re.match(r"[\d.]+ [\d.]+ \[[\d.]+, [\d.]+\]", capsys.readouterr().out.splitlines()[-1])
    assert (tmp_path / "runs" / "from-python" / "best_checkpoint" / "config.json").is_file()


def test_scores_alone(project_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(project_root)[1:]:
        exec(compile(block, "python_api.md", "exec"), {"__name__": "python_api"})
    counts, metric, case = capsys.readouterr().out.splitlines()
    assert counts.startswith("0.4 ") and "0.333" in metric and "0.333" in case
