"""Joules come from counters alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_asr.profiling import energy


@pytest.fixture(autouse=True)
def without_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no graphics card."""
    monkeypatch.setattr(energy, "read_nvml", dict)


def set_counter(folder: Path, name: str, microjoules: int) -> None:
    """Let a RAPL counter stand at a value."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_added_and_their_parts_left_out(tmp_path: Path) -> None:
    for name, start in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 0), ("intel-rapl:0:0", 1)):
        set_counter(tmp_path, name, start)
    before = energy.read_counters(tmp_path)
    assert before == {"intel-rapl:0": 5.0, "intel-rapl:1": 0.0}
    set_counter(tmp_path, "intel-rapl:0", 8_000_000)
    set_counter(tmp_path, "intel-rapl:1", 500_000)
    set_counter(tmp_path, "intel-rapl:0:0", 900_000)
    assert energy.joules_since(before, tmp_path) == {"joules": 3.5, "joules_from": "intel-rapl:0, intel-rapl:1"}


@pytest.mark.parametrize("after", [1_000_000, 5_000_000], ids=["wrapped around", "stands still"])
def test_a_counter_that_cannot_be_believed_gives_no_joules(tmp_path: Path, after: int) -> None:
    set_counter(tmp_path, "intel-rapl:0", 5_000_000)
    before = energy.read_counters(tmp_path)
    set_counter(tmp_path, "intel-rapl:0", after)
    assert energy.joules_since(before, tmp_path)["joules"] is None


def test_no_counter_no_joules(tmp_path: Path) -> None:
    assert energy.read_counters(tmp_path) == {}
    assert energy.joules_since({}, tmp_path) == {"joules": None, "joules_from": None}


def test_a_counter_that_may_not_be_read_is_none(tmp_path: Path) -> None:
    set_counter(tmp_path, "intel-rapl:0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
    assert energy.read_rapl(tmp_path) == {}


def test_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(energy, "NVML", "no-such-library.so")
    assert energy.read_nvml() == {}
