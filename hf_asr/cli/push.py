"""Push a run's model, card, results and curves to the Hub; offline, write what would be sent to RUN_DIR/to_push."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_asr.errors import UserError

EXAMPLE = "hf-asr push runs/whisper_ru --repo my-org/whisper-small-ru --private"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of a finished run")
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="repository; made when it is not there")
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument(
        "--private", action="store_true", default=None, help="make it private (default where a corpus is local)"
    )
    seen.add_argument("--public", action="store_false", dest="private", help="make it public, local corpus or not")
    parser.add_argument(
        "--report",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="send the report page, with texts and voices of clips (default: to a private repository)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list the files and their sizes")


def run(options: argparse.Namespace) -> int:
    """Push, or list what would be pushed; return the exit code."""
    from huggingface_hub.constants import is_offline_mode
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hf_asr.hub.push import data_of, is_private, list_push_files, push_run
    from hf_asr.hub.secrets import check_secrets

    check_repo(options.repo)
    private = is_private(options.private, data_of(options.run_dir))
    report = bool(private) if options.report is None else options.report
    files = list_push_files(options.run_dir, options.repo, report=report)
    table = Table("file", "bytes", title=Text(f"to {options.repo}{', private' if private else ''}"))
    for file in files:
        table.add_row(Text(file.path), f"{file.size:,}")
    table.add_row(f"{len(files)} files", f"{sum(file.size for file in files):,}")
    console = Console()
    console.print(table)
    if options.dry_run:
        check_secrets(files)
        console.print("dry run: nothing was sent")
        return 0
    done = push_run(options.run_dir, options.repo, private, report=report)
    if is_offline_mode():
        raise UserError(
            f"expected to reach the Hub, found HF_HUB_OFFLINE set: what would be pushed is in {done}. Unset it and "
            f"push again, or send that folder from another machine: hf upload {options.repo} {done}"
        )
    console.print(Text(f"pushed to {done}"), soft_wrap=True)
    return 0


def check_repo(name: str) -> None:
    """See that a repository can have this name.

    Raises:
        UserError: It cannot.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"expected --repo ORG/NAME, found {name!r}: {error} Give another name.") from error
