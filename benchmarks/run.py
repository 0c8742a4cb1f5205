"""Ours and the stock recipe side by side: the figures of docs/performance.md.

Each row alternates both sides on the same clips, machine, threads, clips an optimiser step and number of labels, and
takes medians over the rounds. ``ratio`` is the stock side's cost over ours: larger is better. Rows are written as they
are measured, each over its namesake in FILE, so that one row can be measured again.

    python benchmarks/run.py [--only NAME ...] [--size tiny|small|large-v3] [--rounds N] [--clock wall|cpu]
                             [--output FILE]

Speech is read from HF_ASR_SHARED_DATA, else ../shared/data, else espeak-ng says it, and the row tells so.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Row, the file it is in, and the ratio it is to reach on two CPU cores; padding's is the share it is to stay below.
ROWS: dict[str, tuple[str, float | None]] = {
    "train_full": ("rows_training", 5.0),
    "train_clip": ("rows_training", 7.0),
    "train_pack": ("rows_training", 4.0),
    "train_bank": ("rows_bank", 5.0),
    "job_bank": ("rows_bank", 3.0),
    "prepare": ("rows_data", 2.0),
    "evaluate": ("rows_decoding", 3.0),
    "cache_bytes": ("rows_data", 10.0),
    "peak_memory": ("rows_memory", 2.5),
    "padding": ("rows_data", 0.08),
    "scale": ("rows_scale", None),
    "roofline": ("rows_training", None),
}
# At larger dimensions than whisper-tiny's only these are measured, without a bar.
LARGER = ("train_full", "train_clip", "train_pack")
BATCH = {"tiny": 8, "small": 4, "large-v3": 4}
# Of each of the four speakers as many as fill windows of five.
CLIPS = 120


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; an unknown row ends it with the nearest right name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=f"rows: {', '.join(ROWS)}")
    parser.add_argument("--size", default="tiny", choices=tuple(BATCH), help="whose dimensions the model has")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both sides in turn (default 5)")
    clocks = "wall time, or CPU time where other programs share the machine (not on a GPU)"
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"), help=clocks)
    parser.add_argument("--output", type=Path, help="JSON list that the rows are written into")
    parser.add_argument("--threads", type=int, help="threads of torch; by default OMP_NUM_THREADS, else all cores")
    options = parser.parse_args(argv)
    for name in options.only:
        if name not in ROWS:
            near = difflib.get_close_matches(name, ROWS, n=1)
            hint = f" did you mean {near[0]}?" if near else ""
            parser.error(f"--only: expected one of {', '.join(ROWS)}, found {name};{hint or ' take one of these'}")
        if options.size != "tiny" and name not in LARGER:
            rows = ", ".join(LARGER)
            parser.error(f"--only: expected one of {rows} beside --size {options.size}, found {name}; leave it out")
    if options.rounds < 1:
        parser.error(f"--rounds: expected 1 or more, found {options.rounds}; the figures of the docs take 5")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads: expected 1 or more, found {options.threads}; leave it out for all cores")
    problem = output_problem(options.output) if options.output else ""
    if problem:
        parser.error(f"--output: expected a JSON list to write rows into, or a new file, found {problem}; name another")
    return options


def output_problem(output: Path) -> str:
    """Tell what is wrong with FILE, before minutes are measured for it."""
    if not output.parent.is_dir():
        return f"no folder {output.parent}"
    if not output.exists():
        return ""
    try:
        rows = json.loads(output.read_text("utf-8"))
        return "" if isinstance(rows, list) and all("name" in row for row in rows) else f"other JSON in {output}"
    except (OSError, ValueError, TypeError) as error:
        return f"{output}: {error}"


def make_setting(folder: Path, options: argparse.Namespace) -> Any:
    """Cut the clips and write the checkpoint that both sides load."""
    from checkpoint import write_checkpoint
    from setting import Setting
    from speech import SPECIAL_LABELS, make_speech, shared_folder

    real = shared_folder()
    checkpoint = write_checkpoint(folder / "checkpoint", options.size, real)
    # An English-only checkpoint has neither language nor task.
    special = SPECIAL_LABELS if real else SPECIAL_LABELS - 2
    return Setting(
        folder=folder,
        speech=make_speech(folder / "speech", CLIPS, special=special),
        checkpoint=checkpoint,
        size=options.size,
        batch=BATCH[options.size],
        rounds=options.rounds,
        decoder=real / "whisper" if real else None,
        real=real,
    )


def put(rows: list[dict[str, Any]], output: Path | None, written: str) -> None:
    """Write rows over their namesakes of the same kind of device in FILE and print them."""
    kept = json.loads(output.read_text("utf-8")) if output and output.exists() else []
    places = [place(row) for row in rows]
    for row in rows:
        row["command"] = written
        print(json.dumps(row))
    if output:
        merged = [row for row in kept if place(row) not in places] + rows
        output.write_text(json.dumps(merged, indent=1) + "\n", "utf-8")


def on_cpu(row: Mapping[str, Any]) -> bool:
    """Tell whether a row was measured without a GPU."""
    return str(row["hardware"]["device"]).startswith("CPU")


def place(row: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what a row of a file has to itself: a GPU's does not take the place of a CPU's."""
    return row["name"], on_cpu(row)


def main() -> int:
    """Measure the rows asked for; return the exit code: 1 when one stays below its bar, 2 when none can be measured."""
    options = parse()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # of the processes that rows start as well
    import datasets
    import torch
    from setting import CLOCK

    from hf_asr.errors import UserError

    if options.clock == "cpu" and torch.cuda.is_available():
        raise SystemExit("--clock cpu: expected a machine without a GPU, whose work no CPU time counts; leave it out")
    os.environ[CLOCK] = options.clock
    torch.set_num_threads(options.threads or torch.get_num_threads())
    datasets.disable_progress_bars()
    logging.getLogger("hf_asr").setLevel(logging.ERROR)
    try:
        missed = measured(options)
    except UserError as error:
        print(f"benchmarks/run.py: {error}", file=sys.stderr)
        return 2
    if missed:
        print(f"below their bars: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def measured(options: argparse.Namespace) -> list[str]:
    """Measure and write the rows asked for; return the names of those below their bars."""
    missed = []
    with tempfile.TemporaryDirectory(prefix="hf_asr_bench") as folder:
        setting = make_setting(Path(folder), options)
        for name in options.only or list(ROWS if options.size == "tiny" else LARGER):
            print(f"{name}:", file=sys.stderr, flush=True)
            module, bar = ROWS[name]
            rows = getattr(importlib.import_module(module), name)(setting)
            put(rows, options.output, command(name, options))
            missed += [row["name"] for row in rows if options.size == "tiny" and below(row, bar)]
    return missed


def command(name: str, options: argparse.Namespace) -> str:
    """Return the command line that measures a row again."""
    words = [f"python benchmarks/run.py --only {name}"]
    words += [f"--size {options.size}"] if options.size != "tiny" else []
    words += [f"--rounds {options.rounds}"]
    words += [f"--clock {options.clock}"] if options.clock != "wall" else []
    words += [f"--threads {options.threads}"] if options.threads else []
    return " ".join(words)


def below(row: dict[str, Any], bar: float | None) -> bool:
    """Tell whether a row misses its bar."""
    if bar is None:
        return False
    return bool(row["ours"] > bar if row["ratio"] is None else row["ratio"] < bar)


if __name__ == "__main__":
    sys.exit(main())
