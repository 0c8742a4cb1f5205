"""The tables of docs/performance.md are those of docs/benchmarks.json."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

MACHINE = {"cores": 2, "threads": 2, "dtype": "float32", "torch": "2.14", "clock": "wall", "load_average": 2.1}


def row(name: str, device: str = "CPU, x86_64", **values: Any) -> dict[str, Any]:
    common = {"stock": 1234.5, "ours": 0.25, "ratio": 4.938, "unit": "s", "rounds": 5, "speech": "real"}
    return {"name": name, **common, "hardware": {"device": device, **MACHINE}, **values}


@pytest.fixture
def table() -> Any:
    return importlib.import_module("table")


def test_the_page_is_current(table: Any, project_root: Path) -> None:
    page = (project_root / "docs" / "performance.md").read_text("utf-8")
    rows = json.loads((project_root / "docs" / "benchmarks.json").read_text("utf-8"))
    assert page == table.render(page, rows), "run: python benchmarks/table.py"


def test_figures_bars_and_what_is_missing(table: Any) -> None:
    beside = {"stride 5": {"cost": 1.0, "ratio": 3.3}}
    text = table.table([row("train_full", beside=beside, window="thinned"), row("padding", ratio=None, ours=0.05)])
    assert (
        "| `train_full` | 1,234 | 0.25 | **4.94** | 5, missed by 0.062 | s; thinned; ratio of stride 5: 3.3 |" in text
    )
    assert "| `padding` | 1,234 | 0.05 |  | at most 0.08 | s |" in text
    assert "| `train_pack` | not measured | | | 4 | |" in text and "| `train_full_small` | not measured" in text
    assert text.rstrip().endswith("Not measured.")
    assert (
        "`train_full`, `padding`: CPU, x86_64, 2 cores, 2 threads, float32, torch 2.14; wall time; speech: real" in text
    )


def test_a_shared_machine_is_told(table: Any) -> None:
    machine = {"device": "CPU", **MACHINE, "threads": 1, "clock": "CPU time", "load_average": 9.3}
    text = table.table([row("prepare", ratio=2.5, hardware=machine)])
    assert "2 cores, 1 thread, float32, torch 2.14; CPU time, on a machine that other programs shared;" in text


def test_gpu_rows_have_a_table_of_their_own(table: Any) -> None:
    text = table.table([row("train_full", device="NVIDIA H200")])
    before, after = text.split("## On a GPU")
    assert "`train_full` | not measured" in before and "**4.94**" in after and "NVIDIA H200" in after


def test_a_row_of_both_devices_is_in_both_tables(table: Any) -> None:
    text = table.table([row("train_full"), row("train_full", device="NVIDIA H200", ratio=3.0)])
    before, after = text.split("## On a GPU")
    assert "**4.94**" in before and "**3.00**" in after and "H200" not in before
