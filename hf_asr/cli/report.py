"""Write report.html again: one page about a run, or about several side by side, that needs no network to be read.

A run folder, and a folder that `hf-asr evaluate --output-dir` wrote, are both taken. The audio of the worst utterances
is put into the page where the corpus of the run's config.yaml can still be read. Treat the page as you treat the
corpus: it holds transcripts, speakers' ids and voices.
"""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLE = "hf-asr report runs/whisper-small runs/whisper-small-lora --output both.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: RUN/test/report.html; for several runs report.html in the current folder)",
    )
    parser.add_argument(
        "--clips", type=int, default=40, metavar="N", help="utterances with audio, 0 for none (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the page and print where it is; return 0."""
    from rich.console import Console

    from hf_asr.cli.run_report import write_report
    from hf_asr.errors import UserError

    if options.clips < 0:
        raise UserError(f"--clips: expected 0 or more, found {options.clips}; give 0 for a page without audio")
    with Console(stderr=True).status("reading the runs"):
        path = write_report(options.runs, options.output, most_clips=options.clips)
    print(path)
    return 0
