"""Every notebook runs from its first cell to its last, offline, and is kept without its outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROMISES = {
    "baselines.ipynb": ("WER", " points [", "report.html"),
    "explore_corpus.ipynb": ("vocabulary", "image/png", "audio/wav"),
}


def test_every_notebook_is_run(project_root: Path) -> None:
    assert {path.name for path in (project_root / "notebooks").glob("*.ipynb")} == set(PROMISES)


@pytest.mark.parametrize("name", PROMISES)
def test_a_notebook_is_kept_small_and_without_outputs(name: str, project_root: Path) -> None:
    path = project_root / "notebooks" / name
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert path.stat().st_size < 20_000
    assert "colab-badge.svg" in "".join(cells[0]["source"])


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISES)
def test_it_runs(name: str, project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(project_root / "notebooks" / name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert [words for words in PROMISES[name] if words not in outputs] == []
