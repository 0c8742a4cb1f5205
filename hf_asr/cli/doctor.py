"""Look for what would spoil a run, before it is started: the machine, and with --config the corpus and the model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from hf_asr.config.arguments import Arguments
    from hf_asr.data.checks import Check

EXAMPLE = "hf-asr doctor --config recipes/whisper/common_voice_ru.yaml data.path=cv-corpus-22.0/ru"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--config", nargs="+", default=[], metavar="YAML", help="the run's YAML files")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="over the YAML's values")
    parser.add_argument(
        "--fit-batch-seconds",
        action="store_true",
        help="load the model too, and find the largest data.batch_seconds that fits into memory",
    )


def run(options: argparse.Namespace) -> int:
    """Check, print a table and every finding; return 0 when healthy, 1 with findings."""
    from rich.console import Console

    from hf_asr.config.parser import is_override, load_arguments
    from hf_asr.errors import UserError

    files = [word for word in options.config if not is_override(word)]
    overrides = [word for word in options.config if is_override(word)] + options.overrides
    if overrides and not files:
        raise UserError(f"expected --config with a YAML beside key=value, found only {' '.join(overrides)}. Add one.")
    arguments = load_arguments(files, overrides) if files else None
    with Console(stderr=True).status("looking"):
        if arguments is None:
            from hf_asr.cli.machine import check_machine

            checks = list(check_machine(Path()))
        else:
            from hf_asr.cli.preflight import check_run

            checks = list(check_run(arguments))
        if options.fit_batch_seconds:
            checks.append(fit(arguments))
    code = report(checks, Console())
    if options.fit_batch_seconds and checks[-1].ok:
        key, _, memory = checks[-1].found.partition("; ")
        print(f"for the YAML:\ndata:\n  {key.removeprefix('data.')}  # {memory}")
    return code


def fit(arguments: Arguments | None) -> Check:
    """Find the largest data.batch_seconds.

    Raises:
        UserError: No run is given.
    """
    from hf_asr.cli.fitting import check_batch_seconds
    from hf_asr.errors import UserError

    if arguments is None:
        raise UserError("--fit-batch-seconds: expected --config with the run's YAML beside it, found none. Add it.")
    return check_batch_seconds(arguments)


def report(checks: Sequence[Check], console: Console) -> int:
    """Print what was looked at as a table, and below it every finding in full."""
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "found")
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("finding", "bold red")
        table.add_row(Text(check.name), mark, Text(check.found.partition("; ")[0]))
    console.print(table)
    findings = [check for check in checks if not check.ok]
    for check in findings:
        lines = f"{check.name}: expected {check.expected}\n  found: {check.found}\n  do: {check.do}"
        console.print(Text(lines), soft_wrap=True)
    console.print(f"findings: {len(findings)}" if findings else "healthy")
    return 1 if findings else 0
