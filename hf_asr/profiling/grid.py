"""The grid: every model, variant, device, type, duration and batch, each measured by itself, none of them fatal."""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from hf_asr.errors import UserError
from hf_asr.inference.generate import progress_bar
from hf_asr.profiling.clips import ProfileClip
from hf_asr.profiling.facts import FactsOfGroup
from hf_asr.profiling.flops import Flops
from hf_asr.profiling.log import Cell, GridLog, Group
from hf_asr.profiling.memory import PeakMeter
from hf_asr.profiling.meter import Meter
from hf_asr.profiling.operators import operator_table
from hf_asr.profiling.pace import Pace
from hf_asr.profiling.quality import score
from hf_asr.profiling.runners import Runner, Stopwatch
from hf_asr.profiling.subject import Subject
from hf_asr.profiling.variants import VARIANTS, NotAvailable, make_runner
from hf_asr.utterance import Seconds

logger = logging.getLogger(__name__)

# Longer cells run once: their noise is small beside their length, and a grid of them would take a day.
ONCE_ABOVE: Seconds = 30.0
# Shorter ones run once before they are measured.
WARM_BELOW: Seconds = 3.0
FEWEST = 3
# The fewest are taken within so many times a cell's seconds; beyond it fewer are, down to one.
STRETCH = 4
# Batch 1 is where percentiles are asked for: so many times the samples of others.
MORE_OF_ONE = 4
# What running a model raises for reasons of its own: shapes, kernels, compilers, memory.
FAULTS = (RuntimeError, ValueError, TypeError, NotImplementedError, MemoryError, OSError, AssertionError)

MakeRunner = Callable[[Subject, torch.device], Runner]


@dataclass(frozen=True)
class GridSettings:
    """What is measured, and how often.

    Attributes:
        durations: Seconds of the clips.
        batch_sizes: Clips run together.
        devices: ``cpu``, ``cuda``.
        dtypes: Types of the weights, for variants that do not set their own.
        variants: Keys of ``VARIANTS``.
        tokens: Tokens that a decoder writes in the speed rows.
        repeats: Samples of a cell at most; four times as many of batch 1.
        cell_seconds: Time for a cell's samples, within which there are as many as fit; four times as long for three.
        seed: Of weights and clips.
        threads: Threads of a CPU.
        normalizer: Text pipeline of the WER.
        memory_limit: Bytes that a device is taken to have free; None asks it.
        operators: Whether operators are profiled, one cell a group.
        minutes: Time for the whole grid, an equal share of what is left for each group: beyond it cells that have a
            sample get no more; None for as long as it takes.
    """

    durations: Sequence[Seconds]
    batch_sizes: Sequence[int]
    devices: Sequence[str]
    dtypes: Sequence[str]
    variants: Sequence[str]
    tokens: int = 32
    repeats: int = 5
    cell_seconds: Seconds = 10.0
    seed: int = 42
    threads: int = 1
    normalizer: str = "basic"
    memory_limit: int | None = None
    operators: bool = True
    minutes: float | None = None


@dataclass
class Grid:
    """Runs a grid.

    Attributes:
        settings: What is measured.
        subjects: The models, by name.
        clips: Clips of each duration, or why there are none.
        meters: What counts joules on each device.
        log: Where samples go.
        others: Runtimes from the verb, by variant.
        trace: Folder for chrome traces; None for none.
        scored: Whether the clips have words.
    """

    settings: GridSettings
    subjects: Mapping[str, Subject]
    clips: Mapping[Seconds, Sequence[ProfileClip] | str]
    meters: Mapping[str, Meter]
    log: GridLog
    others: Mapping[str, MakeRunner] = field(default_factory=dict)
    trace: Path | None = None
    scored: bool = False
    _until: Seconds = math.inf
    _flops: dict[tuple[str, bool], dict[Seconds, tuple[Flops, Flops | None]]] = field(default_factory=dict)

    def groups(self) -> Iterator[Group]:
        """Yield the loaded models to come; a variant with a type of its own comes once."""
        settings, seen = self.settings, set[str]()
        for name, device, variant, dtype in product(
            self.subjects, settings.devices, settings.variants, settings.dtypes
        ):
            group = Group(name, variant, device, VARIANTS[variant].dtype or dtype)
            if group.key not in seen:
                seen.add(group.key)
                yield group

    def cells(self, group: Group) -> list[Cell]:
        """Return a group's cells, the cheapest first."""
        pairs = product(self.settings.durations, self.settings.batch_sizes)
        return [Cell(group, *pair) for pair in sorted(pairs, key=math.prod)]

    def run(self, after: Callable[[], object] = lambda: None) -> None:
        """Measure what has not been measured yet.

        Args:
            after: Called after each group: whoever looks meanwhile finds a report.
        """
        groups, end = list(self.groups()), time.monotonic() + 60 * (self.settings.minutes or math.inf)
        with progress_bar(True) as bar:
            task = bar.add_task("profiling", total=sum(len(self.cells(group)) for group in groups))
            for place, group in enumerate(groups):
                self._until = time.monotonic() + (end - time.monotonic()) / (len(groups) - place)
                bar.update(task, description=f"{group.model} {group.variant} {group.device}")
                self.run_group(group)
                bar.advance(task, len(self.cells(group)))
                after()

    def run_group(self, group: Group) -> None:
        """Measure the cells of one loaded model; whatever goes wrong becomes their message."""
        waiting = [cell for cell in self.cells(group) if not self._finished(cell)]
        if not waiting and not self._extras_missing(group):
            return
        subject, device = self.subjects[group.model], torch.device(group.device)
        known = self._flops.setdefault((group.model, group.variant == "thinned"), {})
        facts = FactsOfGroup(group, subject, self.settings.tokens, self.settings.memory_limit, known)
        possible = [cell for cell in waiting if self._possible(cell, facts)]
        if waiting and not possible:
            return
        try:
            runner = make_runner(group.variant, subject, device, group.dtype, self.others)
        except NotAvailable as error:
            self._refuse(possible, "not_available", str(error))
            return
        except (UserError, *FAULTS) as error:
            self._refuse(possible, *told(error))
            return
        self._measure(runner, possible, facts)
        self._extras(runner, group)
        del runner
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()

    def _possible(self, cell: Cell, facts: FactsOfGroup) -> bool:
        """Note what is known of a cell before it runs; False where it cannot."""
        clips, known = self.clips[cell.duration], dict[str, Any]()
        if isinstance(clips, str):
            status, message = "not_available", clips
        else:
            try:
                status, message = facts.verdict(cell)
                known = facts.of(cell) if status in ("", "oom") else {}
            except FAULTS as error:
                status, message = told(error)
        self.log.append("facts", cell.key, status=status, message=message, **known)
        return not status

    def _refuse(self, cells: Sequence[Cell], status: str, message: str) -> None:
        logger.warning("%s: %s", cells[0].group.key, message)
        for cell in cells:
            known = self.log.last("facts", cell.key) or {}
            self.log.append("facts", cell.key, **{**_values(known), "status": status, "message": message})

    def _measure(self, runner: Runner, cells: Sequence[Cell], facts: FactsOfGroup) -> None:
        planned = self._plan(runner, cells, facts)
        pace = Pace(torch.device(cells[0].group.device))
        rounds = max((number for number in planned.values()), default=0)
        for turn in range(rounds):
            order = cells if turn % 2 == 0 else list(reversed(cells))
            for cell in order:
                done = self.log.of("sample", cell.key)
                if turn >= planned.get(cell.key, 0) or len(done) > turn or self._failed(cell):
                    continue
                if self._over(done):
                    planned[cell.key] = len(done)
                    self.log.append("plan", cell.key, number=len(done), forecast_seconds=done[-1]["total_seconds"])
                    continue
                self._sample(runner, cell, turn, pace)

    def _over(self, samples: Sequence[Mapping[str, Any]]) -> bool:
        """Whether one more sample would take a cell beyond its time, or the group beyond its own.

        A forecast may be wrong, a machine slow down.
        """
        taken = [sample["total_seconds"] for sample in samples]
        if not taken:
            return False
        late = time.monotonic() + taken[-1] > self._until
        return late or sum(taken) + taken[-1] > STRETCH * self.settings.cell_seconds

    def _plan(self, runner: Runner, cells: Sequence[Cell], facts: FactsOfGroup) -> dict[str, int]:
        """Warm cells up and decide how often each is run; the cheapest one tells what the others will take."""
        planned: dict[str, int] = {}
        rate: float | None = None  # seconds a FLOP
        for cell in cells:
            forecast = None if rate is None else rate * facts.cost(cell)
            if forecast is None or forecast < WARM_BELOW or cell.group.device == "cuda":
                seconds = self._warm_up(runner, cell)
                if seconds is None:
                    continue
                forecast, rate = seconds, seconds / facts.cost(cell)
            number = self._times(cell, forecast)
            planned[cell.key] = number
            self.log.append("plan", cell.key, number=number, forecast_seconds=forecast)
        return planned

    def _times(self, cell: Cell, forecast: Seconds) -> int:
        if forecast > ONCE_ABOVE:
            return 1
        most = self.settings.repeats * (MORE_OF_ONE if cell.batch_size == 1 else 1)
        fitting = int(self.settings.cell_seconds / max(forecast, 1e-9))
        stretched = int(STRETCH * self.settings.cell_seconds / max(forecast, 1e-9))
        fewest = max(1, min(FEWEST, self.settings.repeats, stretched))
        return max(fewest, min(most, fitting))

    def _warm_up(self, runner: Runner, cell: Cell) -> Seconds | None:
        try:
            first = self._once(runner, cell, 0).total
            # The first run of all compiles, allocates and reads weights from the disk.
            return self._once(runner, cell, 0).total if first < WARM_BELOW else first
        except FAULTS as error:
            self._refuse([cell], *told(error))
            return None

    def _sample(self, runner: Runner, cell: Cell, turn: int, pace: Pace) -> None:
        meter, before = self.meters[cell.group.device], pace()
        try:
            with PeakMeter(torch.device(cell.group.device)) as peak:
                meter.start()
                watch = self._once(runner, cell, turn)
                energy = meter.stop()
        except FAULTS as error:
            self._refuse([cell], *told(error))
            return
        self.log.append(
            "sample",
            cell.key,
            repeat=turn,
            laps=watch.laps,
            total_seconds=watch.total,
            first_token_seconds=watch.first_token,
            peak_bytes=peak.peak,
            joules=energy.joules,
            gross_joules=energy.gross,
            metered_seconds=energy.seconds,
            pace_seconds=(before + pace()) / 2,
        )

    def _once(self, runner: Runner, cell: Cell, turn: int) -> Stopwatch:
        clips = self.clips[cell.duration]
        assert not isinstance(clips, str)
        chosen = [clips[(turn * cell.batch_size + place) % len(clips)] for place in range(cell.batch_size)]
        watch = Stopwatch(torch.device(cell.group.device))
        watch.start()
        samples = [clip.samples() for clip in chosen]
        watch.lap("decode_audio")
        runner(samples, self.settings.tokens, watch)
        return watch

    def _extras_missing(self, group: Group) -> bool:
        """Whether a grid was stopped between a group's samples and its operators or its WER."""
        done = [cell for cell in self.cells(group) if self.log.of("sample", cell.key)]
        words = self.scored and self.subjects[group.model].writes
        unscored = words and any(not self.log.of("quality", f"{group.key}|{cell.duration:g}s") for cell in done)
        return bool(done) and (unscored or (self.settings.operators and not self.log.of("operators", group.key)))

    def _extras(self, runner: Runner, group: Group) -> None:
        """Profile operators on one cell, and score what is written of each duration's clips."""
        done = [cell for cell in self.cells(group) if self.log.of("sample", cell.key)]
        if done and self.settings.operators and not self.log.of("operators", group.key):
            self._operators(runner, self._for_operators(done))
        for duration in dict.fromkeys(cell.duration for cell in done):
            self._score(runner, group, duration)

    def _for_operators(self, cells: Sequence[Cell]) -> Cell:
        """Return the longest cell of batch 1 (or of the smallest batch) that takes no more than a few seconds."""
        smallest = [cell for cell in cells if cell.batch_size == min(cell.batch_size for cell in cells)]
        quick = [cell for cell in smallest if self._seconds(cell) < ONCE_ABOVE / 3]
        return (quick or smallest[:1])[-1]

    def _seconds(self, cell: Cell) -> Seconds:
        return float(self.log.of("sample", cell.key)[0]["total_seconds"])

    def _operators(self, runner: Runner, cell: Cell) -> None:
        model = runner.modules()
        if model is None:
            self.log.append("operators", cell.group.key, message="another runtime has no operators of torch")
            return
        name = cell.key.replace("|", "-").replace("/", "_").replace(":", "_")
        trace = None if self.trace is None else self.trace / f"{name}.json"
        try:
            table = operator_table(_Once(self, runner, cell), model, trace)
        except FAULTS as error:
            logger.warning("operators of %s: %s", cell.key, told(error)[1])
            self.log.append("operators", cell.group.key, message=told(error)[1])
            return
        self.log.append("operators", cell.group.key, cell=cell.key, table=table.as_dict())

    def _score(self, runner: Runner, group: Group, duration: Seconds) -> None:
        key, clips = f"{group.key}|{duration:g}s", self.clips[duration]
        if not (self.scored and self.subjects[group.model].writes) or self.log.of("quality", key):
            return
        assert not isinstance(clips, str)
        try:
            found = score(clips, runner.write(clips), self.settings.normalizer, self.settings.seed)
        except (UserError, *FAULTS) as error:
            logger.warning("WER of %s: %s", key, told(error)[1])
            self.log.append("quality", key, message=told(error)[1])
            return
        self.log.append("quality", key, **found)

    def _finished(self, cell: Cell) -> bool:
        """Whether a cell needs nothing more: refused before, or all its samples are there (and its group's extras)."""
        if self._failed(cell):
            return True
        planned = self.log.last("plan", cell.key)
        return planned is not None and len(self.log.of("sample", cell.key)) >= planned["number"]

    def _failed(self, cell: Cell) -> bool:
        facts = self.log.last("facts", cell.key)
        return bool(facts and facts["status"])


@dataclass(frozen=True)
class _Once:
    grid: Grid
    runner: Runner
    cell: Cell

    def __call__(self) -> object:
        return self.grid._once(self.runner, self.cell, 0)


def told(error: BaseException) -> tuple[str, str]:
    """Return status and message of a cell that could not be run."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return ("oom" if memory else "failed"), f"{type(error).__name__}: {lines[0][:300]}"


def _values(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("kind", "key")}
