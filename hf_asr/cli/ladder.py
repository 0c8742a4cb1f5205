"""Runs a ladder: every run in a process of its own, what is finished is kept, and one table at the end."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from hf_asr.cli.outcome import IMPOSSIBLE, PROBLEM
from hf_asr.config.arguments import Arguments
from hf_asr.config.ladder import Ladder, Row, run_name
from hf_asr.config.parser import load_arguments, save_arguments
from hf_asr.errors import UserError
from hf_asr.evaluation.guardrails import exceeded, read_guardrails
from hf_asr.evaluation.ladder import RunScores, read_scores
from hf_asr.evaluation.ladder_table import LadderTable, RowResult, as_csv, as_json, build_table, markdown, screen
from hf_asr.evaluation.report import PREDICTIONS, RESULTS
from hf_asr.evaluation.screen import main_rate

RESOURCES = "resources.json"
FAILURE = "failure.txt"
UNTOUCHED = "untouched"
# They change no number: the untouched model is scored in whichever run is the first.
NOT_COMPARED = ("training.resume_from_checkpoint", "evaluation.baseline")
# A terminal's Ctrl-C reaches the run as well; one that was sent to us alone is passed on after so long.
PASS_ON_AFTER = 10.0


def run_ladder(ladder: Ladder, scripts: Path) -> LadderTable:
    """Run what is not done yet, then write and return the table; Ctrl-C leaves a table of what there is.

    Args:
        ladder: From :func:`hf_asr.config.ladder.parse_ladder`.
        scripts: Folder of the recipes.

    Raises:
        UserError: A finished run is there that was made with another configuration, or no run could be finished.
    """
    check_earlier_runs(ladder)
    for folder in (ladder.folder / "configs", ladder.folder / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    try:
        for number, (name, arguments) in enumerate(ladder.runs.items(), 1):
            head = f"run {number} of {len(ladder.runs)}, {name}"
            if is_done(arguments):
                console.print(f"{head}: done before", highlight=False)
                continue
            console.print(f"{head}: started", highlight=False)
            began = time.perf_counter()
            message = run_one(ladder, name, arguments, scripts)
            told = f"failed: {message}" if message else told_score(arguments)
            console.print(f"{head}: {told} ({time.perf_counter() - began:.0f} s)", highlight=False, markup=False)
    finally:
        table = write_table(ladder)
    if not table.rates:
        failures = next((row.failures for row in table.rows if row.failures), {})
        raise UserError(
            f"expected runs that can be finished, found none: {next(iter(failures.values()), 'all failed')}"
        )
    return table


def check_earlier_runs(ladder: Ladder) -> None:
    """See, before anything runs, that the runs that are there were made with these configurations.

    Raises:
        UserError: Some were not.
    """
    for name, arguments in ladder.runs.items():
        saved = arguments.run_dir / "config.yaml"
        if not saved.is_file():
            continue
        changed = differences(load_arguments([saved]), arguments)
        if changed:
            raise UserError(
                f"expected the run {name} of this ladder in {arguments.run_dir}, found one made with other values: "
                f"{'; '.join(changed)}. Set them back, delete that folder, or give another experiment.name."
            )


def differences(saved: Arguments, wanted: Arguments) -> list[str]:
    """Return what differs between two configurations, each as ``key is A, was B``."""
    before, now = flat(asdict(saved)), flat(asdict(wanted))
    for values in (before, now):
        for key in NOT_COMPARED:
            values.pop(key, None)
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return [f"{key} is {now.get(key)}, was {before.get(key)}" for key in keys]


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested mappings as one, keys joined by dots; an empty mapping is as good as none."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        place = f"{path}.{key}" if path else str(key)
        found |= flat(value, place) if isinstance(value, Mapping) else {place: value}
    return found


def is_done(arguments: Arguments) -> bool:
    """Tell whether a run has its last result."""
    return (arguments.run_dir / "test" / RESULTS).is_file()


def lost_too_much(arguments: Arguments, code: int) -> bool:
    """Tell whether a run ended with 1 because of ``evaluation.also_limits``: it is whole, and its result counts."""
    return code == PROBLEM and bool(exceeded(read_guardrails(arguments.run_dir)))


def run_one(ladder: Ladder, name: str, arguments: Arguments, scripts: Path) -> str:
    """Run one configuration to its end, from its newest checkpoint if it was begun before.

    Returns:
        Why it failed, in its own last words; empty when it did not.
    """
    config, log = ladder.folder / "configs" / f"{name}.yaml", ladder.folder / "logs" / f"{name}.log"
    save_arguments(arguments, config)
    script = scripts / f"{ladder.settings.recipe}.py"
    launcher = ladder.settings.accelerate_config
    start = [sys.executable]
    if launcher is not None:
        start += ["-m", "accelerate.commands.launch", "--config_file", launcher]
    command = [*start, str(script), "--config", str(config), "training.resume_from_checkpoint=true"]
    with log.open("w", encoding="utf-8") as file:
        code = wait_for(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT))
    failure = arguments.run_dir / FAILURE
    message = "" if is_done(arguments) and (code == 0 or lost_too_much(arguments, code)) else last_words(log, code)
    if message:
        arguments.run_dir.mkdir(parents=True, exist_ok=True)
        failure.write_text(message + "\n", encoding="utf-8")
        return message
    failure.unlink(missing_ok=True)
    if not ladder.settings.keep_weights:
        for folder in ("checkpoints", "best_checkpoint"):
            shutil.rmtree(arguments.run_dir / folder, ignore_errors=True)
    return ""


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for a run; a Ctrl-C, which reaches it too, is answered once it has ended."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(timeout=PASS_ON_AFTER)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
        raise


def last_words(log: Path, code: int) -> str:
    """Return the last line that a run wrote: what our recipes, and Python, end a failure with."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it wrote nothing"
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (memory ran out?)" if name == "SIGKILL" else ""
        return f"ended by {name}{hint}; its last line: {last}"
    return last if code == IMPOSSIBLE else f"{last} (exit code {code}; see logs/{log.name})"


def told_score(arguments: Arguments) -> str:
    """Return a run's main result in words."""
    scores = scores_of(arguments, "test")
    return f"{scores.metric.upper()} {scores.value:.4f}"


def scores_of(arguments: Arguments, part: str) -> RunScores:
    """Return the scores of a run's ``test`` or ``baseline``: CER for languages without spaces, else what there is."""
    rate = main_rate(arguments.data.language)
    return read_scores(arguments.run_dir / part, "cer" if rate == "cer" else None)


def write_table(ladder: Ladder) -> LadderTable:
    """Write ladder.md, ladder.csv and ladder.json from what is in the run folders, and return the table."""
    rows = [row_result(ladder, row) for row in ladder.rows]
    first = ladder.runs[run_name(ladder.rows[0], ladder.settings.seeds[0])]
    if (first.run_dir / "baseline" / PREDICTIONS).is_file():
        seed = ladder.settings.seeds[0]
        rows.insert(0, RowResult(UNTOUCHED, UNTOUCHED, scores={seed: scores_of(first, "baseline")}))
    table = build_table(ladder.name, rows, first.evaluation.normalizer)
    for name, text in (("ladder.md", markdown(table)), ("ladder.csv", as_csv(table)), ("ladder.json", as_json(table))):
        staging = ladder.folder / f".{name}.tmp"
        staging.write_text(text, encoding="utf-8")
        staging.replace(ladder.folder / name)
    return table


def row_result(ladder: Ladder, row: Row) -> RowResult:
    """Collect what is known of a row's runs."""
    result = RowResult(row.name, row.kind, row.against)
    for seed in ladder.settings.seeds:
        arguments = ladder.runs[run_name(row, seed)]
        resources, failure = arguments.run_dir / RESOURCES, arguments.run_dir / FAILURE
        if is_done(arguments):
            result.scores[seed] = scores_of(arguments, "test")
        elif failure.is_file():
            result.failures[seed] = failure.read_text(encoding="utf-8").strip()
        else:
            result.missing.append(seed)
        if resources.is_file():
            result.resources[seed] = json.loads(resources.read_text(encoding="utf-8"))
    return result


def show(table: LadderTable, folder: Path) -> None:
    """Print the table, and where it is."""
    console = Console()
    if not console.is_terminal:  # a file has no width: 80 columns would break every cell
        console = Console(width=160)
    console.print(screen(table))
    console.print(f"{folder}: ladder.md, ladder.csv, ladder.json, runs/, logs/", highlight=False)
