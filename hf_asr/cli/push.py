"""Push a run's card, best checkpoint and test results to the Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "hf-asr push runs/whisper_ru --repo my-org/whisper-small-ru --private"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of a finished run")
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="repository; made when it is not there")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--dry-run", action="store_true", help="only list the files and their sizes")


def run(options: argparse.Namespace) -> int:
    """Push, or list what would be pushed; return the exit code."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hf_asr.hub.push import list_push_files, push_run

    files = list_push_files(options.run_dir, options.repo)
    table = Table("file", "bytes", title=Text(f"to {options.repo}"))
    for file in files:
        table.add_row(Text(file.path), f"{file.size:,}")
    table.add_row(f"{len(files)} files", f"{sum(file.size for file in files):,}")
    console = Console()
    console.print(table)
    if options.dry_run:
        console.print("dry run: nothing was sent")
        return 0
    console.print(Text(f"pushed to {push_run(options.run_dir, options.repo, options.private)}"), soft_wrap=True)
    return 0
