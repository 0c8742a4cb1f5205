"""Tar archives of a release, read where they lie: an index of members, and one decompression of a .tar.gz.

A plain .tar can be sought: each clip is (offset, size) in it, and nothing is unpacked into millions of files. A .tar.gz
cannot, so it is decompressed once into the cache. No name inside an archive is ever written to the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

from filelock import FileLock
from rich.console import Console
from rich.progress import Progress

from hf_asr.data.tables import check_file
from hf_asr.errors import UserError
from hf_asr.files import write_whole

_LOG = logging.getLogger(__name__)
_ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 2**22
# Encoded speech hardly shrinks, WAV by 2, tables by 10. gzip itself reaches 1,032: what does is no corpus.
MOST_GROWTH = 100
# Names that are no UTF-8 come back as the bytes they were.
NAMES = "surrogateescape"
# Indexing reads one header a member, about 25 microseconds each: a bar from some 50,000 clips on.
_SHOW_PROGRESS_BYTES = 2**31


class Member(NamedTuple):
    """Where a member's bytes lie in its archive."""

    offset: int
    size: int


def cache_folder(kind: str) -> Path:
    """Return our cache folder of one kind: below ``$HF_ASR_CACHE``, else ``~/.cache/hf_asr``. It may not exist yet."""
    root = os.environ.get("HF_ASR_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "hf_asr") / kind


class DamagedArchive(UserError):
    """An archive that was cut or is none: where there are others, they are read."""


def file_key(path: str | os.PathLike[str]) -> str:
    """Return a name for a file's present state: it changes with its place, size and time of change."""
    status = os.stat(path)
    state = f"{os.path.realpath(path)}\n{status.st_size}\n{status.st_mtime_ns}"
    return hashlib.sha256(state.encode("utf-8", NAMES)).hexdigest()[:16]


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Tell from its name whether a path is an archive that can be read."""
    return str(path).lower().endswith(_ARCHIVE_SUFFIXES)


def plain_tar(path: str | os.PathLike[str]) -> Path:
    """Return an uncompressed .tar of an archive: itself, or a .tar.gz decompressed into the cache, once.

    Raises:
        DamagedArchive: It is cut, damaged or of another kind.
        UserError: It is missing, or its content does not fit on the disk.
    """
    archive = check_file(path, "a .tar or .tar.gz archive")
    with open(archive, "rb") as file:
        head = file.read(262)
    if head[:2] != _GZIP_MAGIC:
        if head[257:262] != b"ustar" and head != bytes(262):  # zeros: one without members
            raise DamagedArchive(f"expected a .tar or .tar.gz archive at {archive}, found another kind of file")
        return archive
    target = cache_folder("archives") / f"{archive.name.split('.')[0]}-{file_key(archive)}.tar"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Several processes of one run come here at once; one decompresses, the others wait for it.
        with FileLock(f"{target}.lock"):
            if not target.exists():
                _decompress(archive, target)
    except OSError as error:
        raise UserError(
            f"{archive} cannot be decompressed to {target}: {error}; set HF_ASR_CACHE to a writable folder with "
            "enough space, or give the unpacked folder"
        ) from error
    return target


def tar_index(path: Path) -> Mapping[str, Member]:
    """Return name to place of every regular file in an uncompressed tar archive.

    The index is kept in the cache, so that the archive is walked once and not on every start.

    Raises:
        UserError: The archive is cut or damaged.
    """
    return _tar_index(str(path), file_key(path))


@lru_cache(maxsize=8)
def _tar_index(path: str, key: str) -> dict[str, Member]:
    stored = cache_folder("archives") / f"{Path(path).name.split('.')[0]}-{key}.index"
    if stored.is_file():
        return _read_index(stored)
    index = _walk_tar(Path(path))
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            stored, "".join(f"{place.offset}\t{place.size}\t{name}\n" for name, place in index.items()), errors=NAMES
        )
    except OSError as error:
        _LOG.info("the index of %s is not kept, its cache cannot be written: %s", path, error)
    return index


def _read_index(stored: Path) -> dict[str, Member]:
    with open(stored, encoding="utf-8", newline="\n", errors=NAMES) as file:
        rows = (line.rstrip("\n").split("\t", 2) for line in file)
        return {name: Member(int(offset), int(size)) for offset, size, name in rows}


def _walk_tar(path: Path) -> dict[str, Member]:
    index: dict[str, Member] = {}
    _LOG.info("reading the index of %s", path)
    total = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar, _progress(total < _SHOW_PROGRESS_BYTES) as progress:
            bar = progress.add_task(f"index of {path.name}", total=total)
            while member := tar.next():
                tar.members.clear()  # type: ignore[attr-defined]  # a million of them are a gigabyte
                if member.isreg() and not member.issparse() and "\n" not in member.name:
                    index[posixpath.normpath(member.name)] = Member(member.offset_data, member.size)
                if len(index) % 1000 == 0:
                    progress.update(bar, completed=member.offset)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{path} is cut or damaged ({error}); fetch the archive again") from error
    if any(place.offset + place.size > total for place in list(index.values())[-1:]):
        raise UserError(f"{path} ends inside its last file; fetch the archive again")
    return index


def _progress(disable: bool) -> Progress:
    """Return a bar on stderr: stdout belongs to results."""
    return Progress(console=Console(stderr=True), disable=disable)


def _decompress(archive: Path, target: Path) -> None:
    """Decompress a .tar.gz under a temporary name, then rename it."""
    needed, free = _uncompressed_size(archive), shutil.disk_usage(target.parent).free
    if needed > free:
        raise UserError(
            f"{archive} takes {needed / 1e9:.1f} GB decompressed, {free / 1e9:.1f} GB are free in {target.parent}; "
            "make room, set HF_ASR_CACHE to another disk, or give the unpacked folder"
        )
    _LOG.info("decompressing %s once to %s (%.1f GB)", archive, target, needed / 1e9)
    part = target.with_name(f".{target.name}.part")
    try:
        with open(archive, "rb") as packed, open(part, "wb") as unpacked:
            _copy_unpacked(packed, unpacked, archive)
        os.replace(part, target)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DamagedArchive(f"{archive} is cut or damaged ({error}); fetch the archive again") from error
    finally:
        part.unlink(missing_ok=True)


def _copy_unpacked(packed: IO[bytes], unpacked: IO[bytes], archive: Path) -> None:
    total = archive.stat().st_size
    most = MOST_GROWTH * total + _BLOCK
    with gzip.open(packed) as content, _progress(total < _BLOCK) as progress:
        bar = progress.add_task(f"decompressing {archive.name}", total=total)
        while block := content.read(_BLOCK):
            unpacked.write(block)
            if unpacked.tell() > most:
                raise UserError(
                    f"{archive}: expected an archive of speech, which grows a few times when it is decompressed, found "
                    f"one that grows beyond {MOST_GROWTH} times its {total:,} bytes. It is refused; nothing is left."
                )
            progress.update(bar, completed=packed.tell())
    unpacked.flush()
    os.fsync(unpacked.fileno())


def _uncompressed_size(archive: Path) -> int:
    """Return the size of a gzip's content; its last four bytes hold it modulo 4 GiB (RFC 1952, section 2.3.1)."""
    packed = archive.stat().st_size
    with open(archive, "rb") as file:
        file.seek(-min(4, packed), os.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
    # Encoded audio hardly shrinks: the first size of that remainder that is not below the packed one.
    while size < 0.98 * packed:
        size += 2**32
    return size
