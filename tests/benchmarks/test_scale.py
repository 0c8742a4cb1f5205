"""The loader's simulation against sums that can be done by hand, and a corpus listed as the benchmark does."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def simulation() -> Any:
    return importlib.import_module("loader_simulation")


@pytest.fixture
def given(simulation: Any) -> dict[str, float]:
    return {name: default for name, (default, _) in simulation.INPUTS.items()}


@pytest.mark.parametrize(
    ("decode_ms", "workers", "expected"),
    [(0, 1, 1.0), (1, 4, 1.0), (1000 / 15, 2, 0.5), (1000 / 15, 1, 0.25)],
    ids=["nothing to decode", "enough workers", "half of what it takes", "a quarter"],
)
def test_gpus_are_busy_as_far_as_workers_keep_up(
    simulation: Any, given: dict[str, float], decode_ms: float, workers: int, expected: float
) -> None:
    inputs = given | {"decode-ms": decode_ms, "workers": workers, "clips-a-second": 60}
    assert simulation.kept_busy(1, inputs) == pytest.approx(expected, abs=0.03)


def test_the_slowest_of_many_is_waited_for(simulation: Any, given: dict[str, float]) -> None:
    inputs = given | {"decode-ms": 16, "workers": 1, "prefetch": 1, "clips-a-second": 60}
    one, many = (simulation.kept_busy(gpus, inputs) for gpus in (1, 512))
    assert many < 0.9 * one


@pytest.mark.parametrize(
    ("gpus", "shards", "lost"), [(8, 720, 0.0), (512, 720, 1 - 720 / 1024), (512, 511, 1.0), (7, 8, 1 - 8 / 14)]
)
def test_equal_shards_lose_what_does_not_divide(
    simulation: Any, given: dict[str, float], gpus: int, shards: int, lost: float
) -> None:
    assert simulation.lost_to_dry_ranks(gpus, shards, given | {"shard-spread": 0}) == pytest.approx(lost)


def test_the_shards_that_are_needed_are_enough(simulation: Any, given: dict[str, float]) -> None:
    number = simulation.shards_needed(16, given)
    assert simulation.lost_to_dry_ranks(16, number, given) <= 0.01 < simulation.lost_to_dry_ranks(16, 16, given)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"storage-gigabytes": 0.004}, "storage"),
        ({"link-gigabytes": 0.005}, "network of a machine"),
        ({"decode-ms": 500}, "decoding (workers)"),
        ({"disk-gigabytes": 0.01}, "checkpoints"),
        ({"shard-clips": 1e6}, "epoch's end (dry processes)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_breaks_first_is_named(simulation: Any, given: dict[str, float], change: Any, first: str) -> None:
    found = simulation.simulate(8, given | {"shard-spread": 0} | change)
    assert found["breaks_first"] == first and found["used"][first] > 1


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--decode-ms", "500"], 1)])
def test_the_answer_says_whether_all_is_enough(
    simulation: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], code: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["loader_simulation.py", "--gpus", "8", "16", *words])
    assert simulation.main() == code
    out = capsys.readouterr().out
    assert "\n| 8 | 0.9 MB/s |" in out and "\n| 16 | " in out and "storage-gigabytes: 5: " in out


def test_a_corpus_is_listed_and_read(tmp_path: Path) -> None:
    corpus_size = importlib.import_module("corpus_size")
    assert corpus_size.write_manifest(tmp_path, 0.2) == 144
    found = corpus_size.read(tmp_path, 20)
    assert found["rows"] == 144 and found["clips_a_second"] > 0 and found["start_mb"] > 0
