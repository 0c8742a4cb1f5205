"""What every row has in common: the clips, the checkpoint, the settings of both sides, and how rounds are timed."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from speech import Speech
from transformers import TrainerCallback

from hf_asr.profiling.processor import processor

# Which clock counts: ``wall``, or ``cpu`` where other programs share the machine; processes of a row's own inherit it.
CLOCK = "HF_ASR_BENCHMARK_CLOCK"


@dataclass(frozen=True)
class Setting:
    """One machine, one set of clips, one checkpoint.

    Attributes:
        folder: Where everything is written; caches, runs and the checkpoint go below it.
        speech: The clips.
        checkpoint: Stock Whisper folder that both sides load.
        size: ``tiny``, ``small`` or ``large-v3``: whose dimensions the checkpoint has.
        batch: Clips of an optimiser step on both sides.
        rounds: Rounds of both sides in turn.
        decoder: Stock Whisper folder that is decoded with: a real one where there is one.
        new_tokens: Tokens that both sides write for each clip.
        scale: Numbers of clips at which cost against size is measured.
        real: Folder with real corpora; None without.
    """

    folder: Path
    speech: Speech
    checkpoint: Path
    size: str = "tiny"
    batch: int = 8
    rounds: int = 5
    decoder: Path | None = None
    new_tokens: int = 24
    scale: Sequence[int] = (1_000, 10_000, 100_000)
    real: Path | None = None


@dataclass
class Measured:
    """What the rounds of one row gave, in cost: smaller is better.

    Attributes:
        costs: Side to one cost a round.
        unit: Of the costs.
        about: More keys for the row.
    """

    costs: dict[str, list[float]]
    unit: str
    about: dict[str, Any] = field(default_factory=dict)

    def median(self, side: str) -> float:
        """Return a side's median cost."""
        return statistics.median(self.costs[side])

    def row(self, name: str, setting: Setting, ours: str = "ours") -> dict[str, Any]:
        """Return the row: stock against ``ours``, every other side beside it."""
        others = [side for side in self.costs if side not in ("stock", ours)]
        beside = {side: {"cost": self.median(side), "ratio": self.ratio(side)} for side in others}
        return {
            "name": name if setting.size == "tiny" else f"{name}_{setting.size}",
            "stock": self.median("stock") if "stock" in self.costs else None,
            "ours": self.median(ours),
            "ratio": self.ratio(ours),
            "unit": f"CPU {self.unit}" if on_cpu_clock() and self.unit.startswith("seconds") else self.unit,
            "rounds": len(self.costs[ours]),
            "spread": {side: [min(costs), max(costs)] for side, costs in self.costs.items()},
            **({"beside": beside} if beside else {}),
            **about(setting),
            **self.about,
        }

    def ratio(self, side: str) -> float | None:
        """Return stock's median over a side's; None without a stock side."""
        return self.median("stock") / self.median(side) if "stock" in self.costs else None


def about(setting: Setting) -> dict[str, Any]:
    """Return what a reader must know beside the figures."""
    return {
        "size": f"whisper-{setting.size} dimensions",
        "batch": setting.batch,
        "label_tokens": setting.speech.label_tokens,
        "speech": setting.speech.source,
        "hardware": hardware(),
    }


def hardware() -> dict[str, Any]:
    """Return device (a CPU's with the instructions that torch takes), threads and versions; no host name."""
    on_gpu = torch.cuda.is_available()
    cpu = f"CPU, {processor()}, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else cpu,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "dtype": "bfloat16 autocast" if on_gpu else "float32",
        "clock": "CPU time" if on_cpu_clock() else "wall",
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Ask every side for its cost, in turn, ``rounds`` times; the order turns round from one round to the next."""
    costs: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for side in order:
            costs[side].append(sides[side]())
            print(f"  round {number + 1} of {rounds}, {side}: {costs[side][-1]:.4g}", file=sys.stderr, flush=True)
    return {side: costs[side] for side in sides}


def on_cpu_clock() -> bool:
    """Tell whether CPU time counts."""
    return os.environ.get(CLOCK) == "cpu"


def clock() -> float:
    """Return seconds, once the GPU has done what it was given.

    CPU time is this process's, all its threads', and that of the processes it has waited for: what the work costs,
    whoever else is on the cores. With one thread and no other program it is wall time.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    if not on_cpu_clock():
        return time.perf_counter()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class StepTimes(TrainerCallback):
    """Notes when each optimiser step ends; a step's time is from one end to the next, its loading included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin anew."""
        self.ends = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.ends.append(clock())


def step_timer(trainer: Any, untimed: int = 1) -> Callable[[], float]:
    """Return what trains for as many steps as the trainer was told and gives the mean seconds of the timed ones.

    Args:
        trainer: Any Trainer.
        untimed: Steps at the beginning that are left out: the first one allocates and makes the optimiser's states.
    """
    times = StepTimes()
    trainer.add_callback(times)

    def timed() -> float:
        trainer.train()
        return (times.ends[-1] - times.ends[untimed - 1]) / (len(times.ends) - untimed)

    return timed


def timed(work: Callable[[], Any], per: float = 1.0) -> Callable[[], float]:
    """Return what does the work and gives its seconds over ``per``."""

    def run() -> float:
        start = clock()
        work()
        return (clock() - start) / per

    return run


def with_folder(setting: Setting, name: str) -> Setting:
    """Return the setting with a folder of its own."""
    folder = setting.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    return replace(setting, folder=folder)
