"""Joules from counters, idle power subtracted; estimates only when asked for, and marked."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hf_asr.errors import UserError
from hf_asr.profiling import energy, meter
from hf_asr.profiling.meter import CodecarbonMeter, CounterMeter, NoMeter, find_meter, grams_of_co2
from hf_asr.profiling.rows import energy as energy_of_samples


class Machine:
    """A clock and a counter that go on as they are told to."""

    def __init__(self, watts: float) -> None:
        self.time, self.joules, self.watts = 100.0, 5000.0, watts

    def clock(self) -> float:
        return self.time

    def read(self) -> dict[str, float]:
        return {"nvml:0": self.joules}

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.joules += seconds * self.watts


def test_idle_power_is_subtracted() -> None:
    machine = Machine(watts=10.0)
    counter = CounterMeter(machine.read, machine.clock, machine.sleep)
    counter.measure_idle(2.0)
    assert counter.idle_watts == 10.0 and counter.source == "counters: nvml:0"
    machine.watts = 40.0
    counter.start()
    machine.sleep(5.0)
    used = counter.stop()
    assert (used.gross, used.joules, used.seconds) == (200.0, 150.0, 5.0)


@pytest.mark.parametrize("change", [-1.0, 0.0], ids=["wrapped around", "stands still"])
def test_a_counter_that_cannot_be_believed_tells_nothing(change: float) -> None:
    machine = Machine(0.0)
    counter = CounterMeter(machine.read, machine.clock, machine.sleep)
    counter.start()
    machine.joules += change
    assert counter.stop().joules is None


class Nvml:
    """NVML's library with one card at so many millijoules."""

    def __init__(self, millijoules: int, code: int = 0, counter_code: int = 0) -> None:
        self.millijoules, self.code, self.counter_code = millijoules, code, counter_code

    def nvmlInit_v2(self) -> int:
        return self.code

    def nvmlShutdown(self) -> int:
        return 0

    def nvmlDeviceGetCount_v2(self, number: Any) -> int:
        number._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, card: Any) -> int:
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, card: Any, millijoules: Any) -> int:
        millijoules._obj.value = self.millijoules
        return self.counter_code


def test_a_fake_nvml_counter_gives_its_joules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = Nvml(1_000_000)
    monkeypatch.setattr(energy.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(meter, "POWERCAP", tmp_path)
    counter = CounterMeter(meter.read_card_and_cpu)
    counter.start()
    library.millijoules += 2_500
    assert counter.stop().gross == 2.5


@pytest.mark.parametrize(
    ("library", "words"),
    [
        (Nvml(1, code=4), "no permission"),
        (Nvml(1, counter_code=4), "no permission"),
        (Nvml(1, counter_code=3), "without one"),
        (Nvml(1), ""),
    ],
    ids=["forbidden", "card forbidden", "no counter", "well"],
)
def test_nvml_that_gives_nothing_says_why(monkeypatch: pytest.MonkeyPatch, library: Nvml, words: str) -> None:
    monkeypatch.setattr(energy.ctypes, "CDLL", lambda name: library)
    problem = energy.nvml_problem()
    assert (words in problem) if words else (problem == "")


def test_rapl_that_may_not_be_read_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("1\n")
    monkeypatch.setattr(energy, "nvml_problem", lambda: "")
    assert energy.counter_problems(tmp_path) == []
    monkeypatch.setattr(Path, "read_text", _forbidden)
    (line,) = energy.counter_problems(tmp_path)
    assert "forbidden" in line and "chmod a+r" in line


def _forbidden(self: Path, *args: Any, **options: Any) -> str:
    raise PermissionError(13, "Permission denied")


def test_no_counter_no_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "read_cpu", dict)
    found = find_meter("cpu")
    assert isinstance(found, NoMeter) and "none" in found.source
    found.start()
    assert found.stop().joules is None


def test_an_estimate_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = SimpleNamespace(
        start_task=lambda name: None, stop_task=lambda name: SimpleNamespace(energy_consumed=1e-6)
    )
    found = CodecarbonMeter(tracker, "estimate: constant")
    found.start()
    assert found.stop().joules == pytest.approx(3.6)
    assert found.estimated and found.source.startswith("estimate")


def test_an_estimate_needs_codecarbon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "read_cpu", dict)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'hf_asr\[profile\]'"):
        find_meter("cpu", estimate=True)


def test_joules_of_a_cell_are_its_samples_together() -> None:
    samples = [{"joules": 4.0, "gross_joules": 6.0, "metered_seconds": 0.15}] * 2
    row = energy_of_samples(samples, 4, NoMeter("counters: x"), 500.0)
    assert (row["joules"], row["joules_per_clip"], row["gross_joules"]) == (4.0, 1.0, 6.0)
    assert row["grams_co2"] == pytest.approx(4.0 / 3.6e6 * 500)
    assert energy_of_samples(samples, 4, NoMeter("counters: x"), None)["grams_co2"] is None


def test_a_cell_shorter_than_a_counters_step_has_no_joules() -> None:
    row = energy_of_samples(
        [{"joules": 4.0, "gross_joules": 6.0, "metered_seconds": 0.01}], 1, NoMeter("counters: x"), None
    )
    assert "joules" not in row and "too short" in row["energy_source"]


def test_carbon_is_the_stated_figure_alone() -> None:
    assert grams_of_co2(3.6e6, 250.0) == 250.0
