"""What a cache was made from, as one hash: the rows' texts and their audio, without decoding any."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

import datasets
import pyarrow
import xxhash

ROWS_AT_ONCE = 1000
# The fields of a row that decide its features and labels; the audio's bytes are hashed apart.
TEXT_FIELDS = ("id", "text", "speaker", "label")
AUDIO_FIELDS = ("path", "offset", "size", "start", "end")


def rows_hash(rows: datasets.Dataset) -> str:
    """Return a hash of ids, texts, speakers, labels and audio.

    Audio in files counts by path, size and time of change, one ``stat`` a file; audio in the table by its bytes.
    """
    digest = hashlib.sha256()
    stamps: dict[str, str] = {}
    for table in rows.with_format("arrow").iter(batch_size=ROWS_AT_ONCE):
        audio = pyarrow.concat_arrays(table["audio"].chunks)
        for column in TEXT_FIELDS:
            _add(digest, table[column].to_pylist())
        for field in AUDIO_FIELDS:
            _add(digest, audio.field(field).to_pylist())
        _add(digest, _stamps(audio.field("path").to_pylist(), stamps))
        _add(digest, _content(audio.field("data")))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, values: Iterable[object]) -> None:
    digest.update(repr(list(values)).encode("utf-8", "surrogatepass"))


def _stamps(paths: Iterable[str], known: dict[str, str]) -> list[str]:
    """Return size and time of change of each file; ``known`` keeps those that were looked at."""
    found = []
    for path in paths:
        if path not in known:
            known[path] = _stamp(path)
        found.append(known[path])
    return found


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # the encoder names the clip; ValueError: a NUL byte in the path
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def _content(data: pyarrow.Array) -> list[str | None]:
    """Hash each cell of bytes where it lies, without copying it."""
    return [xxhash.xxh3_128_hexdigest(cell.as_buffer()) if cell.is_valid else None for cell in data]
