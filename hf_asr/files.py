"""Files that are whole or absent, and folders that one program writes into."""

from __future__ import annotations

import csv
import fcntl
import os
from pathlib import Path
from typing import TextIO

from hf_asr.errors import UserError

LOCK = ".lock"
# Open for as long as the program lives: closing one would give it up.
_LOCKS: list[TextIO] = []


def write_whole(path: str | Path, text: str, *, errors: str = "backslashreplace") -> None:
    """Write a text file as UTF-8 under a temporary name, flush it to disk and rename it; its folder is made.

    A reader sees the old file or the whole new one, never a part, also after a power cut.

    Args:
        path: Where to write; what stands there is replaced.
        text: Its content; line ends are kept.
        errors: What is done with what UTF-8 cannot hold (a lone surrogate): by default its escape is written.

    Raises:
        OSError: The folder cannot be written, or the disk is full; nothing is left behind.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", errors=errors, newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def allow_long_fields() -> None:
    """Let csv read fields above its 131,072 characters: a recording is one text, three hours of speech are more."""
    csv.field_size_limit(2**31 - 1)


def lock_run(run_dir: Path) -> None:
    """Keep other programs out of a run folder while this one lives; the system lets go of it, also after a kill.

    A lock of the process, not of the open file: loader workers, which inherit files, do not hold it.

    Raises:
        UserError: Another program is training into it.
    """
    file = (run_dir / LOCK).open("w")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise UserError(
            f"expected a run folder that no other program trains into, found one at work in {run_dir}. Wait for it, "
            "stop it, or give another experiment.name."
        ) from error
    _LOCKS.append(file)
