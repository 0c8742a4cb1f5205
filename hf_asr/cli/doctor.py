"""Look for what would spoil a run, before it is started: the machine, and with --config the corpus and the model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from hf_asr.data.checks import Check

EXAMPLE = "hf-asr doctor --config recipes/whisper/common_voice_ru.yaml data.path=cv-corpus-22.0/ru"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--config", nargs="+", default=[], metavar="YAML", help="the run's YAML files")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="over the YAML's values")


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
    return report(checks, Console())


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
