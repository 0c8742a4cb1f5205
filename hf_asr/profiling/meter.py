"""Joules of a measured run: counters with the idle power subtracted, or, only when asked for, an estimate marked so."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hf_asr.errors import UserError
from hf_asr.profiling.energy import POWERCAP, read_nvml, read_rapl
from hf_asr.utterance import Seconds

IDLE: Seconds = 2.0
JOULES_A_KWH = 3.6e6
# RAPL counts in steps of about 1 ms, NVML's counter in 20 to 100 ms: what is shorter is mostly rounding.
SHORTEST: Seconds = 0.2


@dataclass(frozen=True, slots=True)
class Energy:
    """What a run used.

    Attributes:
        joules: Above idle; None where nothing counts.
        gross: With the idle power.
        seconds: Of the run.
    """

    joules: float | None
    gross: float | None
    seconds: Seconds


class Meter(Protocol):
    """Something that tells joules."""

    source: str
    estimated: bool
    idle_watts: float | None

    def start(self) -> None:
        """Begin to count."""

    def stop(self) -> Energy:
        """Return what was used since :meth:`start`."""


@dataclass
class NoMeter:
    """Nothing counts energy on this machine."""

    source: str = "none: this machine has no energy counter that can be read"
    estimated: bool = False
    idle_watts: float | None = None
    _started: Seconds = 0.0

    def start(self) -> None:
        """Note the time."""
        self._started = time.perf_counter()

    def stop(self) -> Energy:
        """Return no joules."""
        return Energy(None, None, time.perf_counter() - self._started)


@dataclass
class CounterMeter:
    """Joules from hardware counters, less what the machine used idle.

    Attributes:
        read: Counters' joules by name.
        clock: Seconds.
        sleep: Waits; for the idle power.
    """

    read: Callable[[], Mapping[str, float]]
    clock: Callable[[], Seconds] = time.perf_counter
    sleep: Callable[[Seconds], None] = time.sleep
    source: str = ""
    estimated: bool = False
    idle_watts: float | None = None
    _before: Mapping[str, float] = field(default_factory=dict)
    _started: Seconds = 0.0

    def measure_idle(self, seconds: Seconds = IDLE) -> None:
        """Measure the power of a machine that does nothing of ours, which later joules are less by."""
        self.idle_watts = None
        self.start()
        self.sleep(seconds)
        used = self.stop()
        self.source = f"counters: {', '.join(self._before)}"
        self.idle_watts = used.gross / used.seconds if used.gross is not None else None

    def start(self) -> None:
        """Read the counters."""
        self._before, self._started = dict(self.read()), self.clock()

    def stop(self) -> Energy:
        """Return joules; None where a counter stands still, went back or is gone."""
        seconds, now = self.clock() - self._started, self.read()
        used = [now[name] - joules for name, joules in self._before.items() if name in now]
        if not used or len(used) < len(self._before) or min(used) < 0 or sum(used) <= 0:
            return Energy(None, None, seconds)
        gross = sum(used)
        return Energy(max(0.0, gross - (self.idle_watts or 0.0) * seconds), gross, seconds)


@dataclass
class CodecarbonMeter:
    """codecarbon's figure; without a counter it is the time multiplied by a constant of the processor's model."""

    tracker: Any
    source: str
    estimated: bool = True
    idle_watts: float | None = None
    _started: Seconds = 0.0
    _tasks: int = 0

    def start(self) -> None:
        """Begin a task."""
        self._tasks += 1
        self._started = time.perf_counter()
        self.tracker.start_task(f"cell{self._tasks}")

    def stop(self) -> Energy:
        """End it."""
        data = self.tracker.stop_task(f"cell{self._tasks}")
        joules = float(data.energy_consumed) * JOULES_A_KWH
        return Energy(joules, joules, time.perf_counter() - self._started)


def find_meter(device: str, *, estimate: bool = False, idle_seconds: Seconds = IDLE) -> Meter:
    """Return what counts energy on this machine.

    Args:
        device: ``cpu`` (processor packages) or ``cuda`` (the first card, and the packages where they can be read).
        estimate: Whether codecarbon may estimate where nothing counts.
        idle_seconds: How long the idle power is measured.

    Raises:
        UserError: An estimate is asked for, and codecarbon is not installed.
    """
    meter = CounterMeter(read_cpu if device == "cpu" else read_card_and_cpu)
    counters = meter.read()
    if counters and (device == "cpu" or any(name.startswith("nvml") for name in counters)):
        meter.measure_idle(idle_seconds)
        if meter.idle_watts is not None:
            return meter
    return codecarbon_meter() if estimate else NoMeter()


def read_cpu() -> dict[str, float]:
    """Return the packages' counters."""
    return read_rapl(POWERCAP)


def read_card_and_cpu() -> dict[str, float]:
    """Return the first card's counter, and the packages'."""
    cards = {name: joules for name, joules in read_nvml().items() if name == "nvml:0"}
    return {**read_rapl(POWERCAP), **cards}


def codecarbon_meter() -> CodecarbonMeter:
    """Return codecarbon's estimate, offline.

    Raises:
        UserError: It is not installed.
    """
    if importlib.util.find_spec("codecarbon") is None:
        raise UserError(
            "--estimate-energy: expected codecarbon, found it missing. Install it: pip install 'hf_asr[profile]'."
        )
    from codecarbon import OfflineEmissionsTracker

    logging.getLogger("codecarbon").disabled = True
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA",
        save_to_file=False,
        log_level="critical",
        allow_multiple_runs=True,
        measure_power_secs=60,
    )
    return CodecarbonMeter(tracker, "estimate: codecarbon's constant for this processor multiplied by the time")


def grams_of_co2(joules: float, grams_per_kwh: float) -> float:
    """Return the carbon of joules at a grid's stated figure."""
    return joules / JOULES_A_KWH * grams_per_kwh
