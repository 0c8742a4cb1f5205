"""`hf-asr profile` behind its options: joins models, clips, meters and the grid, and writes the report."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console
from transformers.utils import logging

from hf_asr.cli.loading import make_folder
from hf_asr.cli.profile import GIB, one_of
from hf_asr.cli.profile_others import other_runtimes
from hf_asr.cli.profile_train import time_training
from hf_asr.config.arguments import Arguments
from hf_asr.config.parser import load_arguments
from hf_asr.data.corpora import build_splits
from hf_asr.errors import UserError
from hf_asr.profiling.clips import ProfileClip, noise_clips, speech_clips
from hf_asr.profiling.energy import POWERCAP, counter_problems
from hf_asr.profiling.grid import Grid, GridSettings
from hf_asr.profiling.log import Cell, GridLog
from hf_asr.profiling.meter import Meter, find_meter
from hf_asr.profiling.processor import processor
from hf_asr.profiling.report import write_report
from hf_asr.profiling.roofline import Roof, measure_roof
from hf_asr.profiling.rows import Row, build_rows
from hf_asr.profiling.screen import missing, table
from hf_asr.profiling.subject import Subject, find_subject
from hf_asr.profiling.variants import DTYPES, VARIANTS
from hf_asr.utterance import Seconds

console = Console(stderr=True)


def profile(options: argparse.Namespace) -> int:
    """Run the whole profile; return 0, or 1 when not one cell could be measured."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    variants = list(VARIANTS) if options.variants == ["all"] else options.variants
    one_of("--variants", variants, list(VARIANTS))
    if options.threads:
        torch.set_num_threads(options.threads)
    PartialState(cpu="cuda" not in options.device)
    data = load_arguments(options.data, []) if options.data else None
    language = options.language or (data.data.language if data else None)
    subjects = {
        name: find_subject(name, language=language, tokenizer=options.tokenizer, seed=options.seed)
        for name in dict.fromkeys(options.model)
    }
    check_tokens(options.tokens, subjects)
    settings = settings_of(options, variants, data)
    make_folder(options.output_dir)
    log = GridLog(options.output_dir, remembered(options, settings, subjects))
    grid = Grid(
        settings,
        subjects,
        clips_of(options, data),
        meters_of(options),
        log,
        others=other_runtimes(options.output_dir),
        trace=options.output_dir / "traces" if options.trace else None,
        scored=data is not None,
    )
    report = _Report(grid, options.output_dir, machine_of(settings), roofs_of(grid), options.grid_grams)
    report.tell()
    for name in [name for name, subject in subjects.items() if data and not subject.writes]:
        console.print(f"{name}: no WER, as it has no tokenizer (--tokenizer)", highlight=False)
    try:
        grid.run(after=report)
    except KeyboardInterrupt:
        report()  # of what there is; the same command goes on
        raise
    if options.train:
        for name, subject in subjects.items():
            for device in settings.devices:
                time_training(subject, name, device, settings, log)
    rows = report()
    print_summary(rows, options.output_dir)
    return 0 if any(row["status"] == "measured" for row in rows) else 1


def check_tokens(tokens: int, subjects: Mapping[str, Subject]) -> None:
    """See that every decoder has positions for the tokens that it is made to write.

    Raises:
        UserError: One has not.
    """
    for name, subject in subjects.items():
        most = subject.most_tokens
        if most is not None and tokens > most:
            raise UserError(f"--tokens: expected at most {most}, the positions of {name}, found {tokens}; give fewer")


def settings_of(options: argparse.Namespace, variants: Sequence[str], data: Arguments | None) -> GridSettings:
    """Return the grid's settings."""
    return GridSettings(
        durations=options.durations,
        batch_sizes=options.batch_sizes,
        devices=options.device,
        dtypes=options.dtype,
        variants=variants,
        tokens=options.tokens,
        repeats=options.repeats,
        cell_seconds=options.cell_seconds,
        seed=options.seed,
        threads=torch.get_num_threads(),
        normalizer=data.evaluation.normalizer if data else "basic",
        memory_limit=None if options.memory_limit is None else int(options.memory_limit * GIB),
        operators=not options.no_operators,
        minutes=options.minutes,
    )


def remembered(options: argparse.Namespace, settings: GridSettings, subjects: Mapping[str, Subject]) -> dict[str, Any]:
    """Return what must be the same for samples of two starts to belong to one grid: not its extent."""
    return {
        "tokens": settings.tokens,
        "threads": settings.threads,
        "seed": settings.seed,
        "clips": options.clips,
        "data": [str(part) for part in options.data or []],
        "split": options.split if options.data else None,
        "normalizer": settings.normalizer,
        "memory_limit": settings.memory_limit,
        "machine": platform.machine(),
    }


def clips_of(options: argparse.Namespace, data: Arguments | None) -> dict[Seconds, Sequence[ProfileClip] | str]:
    """Return clips of each duration, or why the corpus has none of it.

    Raises:
        UserError: The corpus has clips of none of the durations.
    """
    if data is None:
        number = min(options.clips, 8)
        return {duration: noise_clips(duration, number, options.seed) for duration in options.durations}
    rows: Any = build_splits(data.data, seed=options.seed, names=(options.split,))[options.split].rows
    listed, found = list(rows), dict[Seconds, Sequence[ProfileClip] | str]()
    for duration in options.durations:
        try:
            found[duration] = speech_clips(listed, duration, options.clips, options.seed, options.output_dir / "clips")
        except UserError as error:
            console.print(str(error), highlight=False)
            found[duration] = str(error)
    if all(isinstance(clips, str) for clips in found.values()):
        raise UserError(str(next(iter(found.values()))))
    return found


def meters_of(options: argparse.Namespace) -> dict[str, Meter]:
    """Find what counts energy, and say why counters that are there cannot be read."""
    for line in counter_problems(POWERCAP):
        console.print(line, highlight=False)
    return {device: find_meter(device, estimate=options.estimate_energy) for device in options.device}


def roofs_of(grid: Grid) -> dict[tuple[str, str], Roof]:
    """Measure what the machine reaches, for each device and dtype of the grid, once: a later start reads it."""
    pairs = dict.fromkeys((group.device, group.dtype) for group in grid.groups())
    for device, dtype in pairs:
        if grid.log.last("roof", f"{device}|{dtype}") is None:
            roof = measure_roof(torch.device(device), DTYPES[dtype])
            grid.log.append("roof", f"{device}|{dtype}", **asdict(roof))
    known = {(device, dtype): grid.log.last("roof", f"{device}|{dtype}") or {} for device, dtype in pairs}
    return {pair: Roof(**{name: found[name] for name in Roof.__annotations__}) for pair, found in known.items()}


def machine_of(settings: GridSettings) -> dict[str, Any]:
    """Return what the report says about the machine."""
    names = {"cpu": f"{processor()} ({settings.threads} threads)"}
    if torch.cuda.is_available():
        names["cuda"] = torch.cuda.get_device_name()
    limit = {"minutes": f"{settings.minutes:g}, then no second sample"} if settings.minutes else {}
    return {"threads": settings.threads, "tokens": settings.tokens, **limit, "torch": torch.__version__, **names}


class _Report:
    """Writes the report of what there is so far."""

    def __init__(
        self,
        grid: Grid,
        folder: Path,
        machine: Mapping[str, Any],
        roofs: Mapping[tuple[str, str], Roof],
        grams: float | None,
    ) -> None:
        self.grid, self.folder, self.machine, self.roofs, self.grams = grid, folder, machine, roofs, grams

    def tell(self) -> None:
        """Say what the measurements depend on."""
        settings = self.grid.settings
        console.print(f"threads {settings.threads}, {settings.tokens} tokens a window, seed {settings.seed}")
        for device, meter in self.grid.meters.items():
            idle = "" if meter.idle_watts is None else f", idle {meter.idle_watts:.1f} W"
            console.print(f"energy of {device}: {meter.source}{idle}", highlight=False)

    def __call__(self) -> list[Row]:
        cells = [cell for group in self.grid.groups() for cell in sorted(self.grid.cells(group), key=_as_read)]
        rows = build_rows(
            self.grid.log,
            cells,
            machine=self.machine,
            meters=self.grid.meters,
            roofs=self.roofs,
            grams_per_kwh=self.grams,
        )
        write_report(rows, self.folder, self.grid.log, self.machine)
        return rows


def _as_read(cell: Cell) -> tuple[Seconds, int]:
    return cell.duration, cell.batch_size


def print_summary(rows: Sequence[Row], folder: Path) -> None:
    """Print the table, and where the files are."""
    out = Console()
    if not out.is_terminal:  # a file has no width: 80 columns would break every cell
        out = Console(width=160)
    out.print(table(rows))
    for line in missing(rows):
        out.print(line, highlight=False, markup=False)
    out.print(f"{folder}: profile.json, profile.csv, report.html", highlight=False)
