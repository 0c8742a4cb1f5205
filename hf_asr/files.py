"""Files that are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path


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
