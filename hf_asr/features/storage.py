"""Folders that are whole or absent, written by one process while others wait: what caches and banks stand on."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_asr.errors import UserError

logger = logging.getLogger(__name__)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time write a folder.

    A POSIX record lock, since it is not inherited: workers that outlive a killed parent do not keep it.
    """
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            logger.info("another process is writing %s, waiting for it", folder)
            fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def renamed_when_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill under another name; what is left of interrupted writes is removed first."""
    for leftover in [*folder.parent.glob(f"{folder.name}.*.unfinished"), folder]:
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.unfinished")
    unfinished.mkdir()
    try:
        yield unfinished
        unfinished.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def sync(path: Path) -> None:
    """Have a file's (or a folder's) content on disk before what follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(error: OSError, folder: Path, needed: int = 0) -> Exception:
    """Return what to raise for a failed write: a message where the user can do something about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        found = "the disk is full"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        found = f"it cannot be written ({error.strerror})"
    else:
        return error
    size = f"{needed / 1e6:,.1f} MB " if needed else ""
    return UserError(
        f"features.cache_dir: expected room to write {size}in {folder}, found that {found}; what was begun is removed. "
        "Set features.cache_dir (or HF_ASR_CACHE) to another place, or features.cache=false to encode on the fly."
    )
