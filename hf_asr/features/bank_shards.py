"""Shards of a bank: each is written whole by one process, with a record that says what is in it, and checked by it.

A shard is two files and a record, ``states-00003.bin`` (float16 numbers), ``index-00003.arrow`` (a row for each clip)
and ``states-00003.json``, written last. It holds a fixed range of the split's rows, so that several processes can
write a bank together, an interrupted one goes on where it stopped, and a damaged shard is written again alone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import numpy as np
import pyarrow as pa
import xxhash

from hf_asr.errors import UserError
from hf_asr.features.storage import sync
from hf_asr.files import write_whole
from hf_asr.utterance import Drops

READ_AT_ONCE = 2**24
UNFINISHED = ".unfinished"
KEPT = ("id", "text", "label", "speaker", "duration", "labels")
# From encoded rows without errors to their states, (K, S, D) float16 each.
Encode = Callable[[Sequence[Mapping[str, Any]]], list[np.ndarray]]


def shard_name(number: int) -> str:
    """Return the file name of a shard's states."""
    return f"states-{number:05d}.bin"


def index_name(number: int) -> str:
    """Return the file name of a shard's index."""
    return f"index-{number:05d}.arrow"


def record_path(folder: Path, number: int) -> Path:
    """Return the file that says what a shard holds."""
    return folder / f"states-{number:05d}.json"


def index_schema(labels: str) -> pa.Schema:
    """Return the columns of an index; ``labels`` is the type of a label."""
    texts = {name: datasets.Value("string") for name in ("id", "text", "label", "speaker", "content")}
    numbers = {"shard": datasets.Value("int32"), "offset": datasets.Value("int64"), "states": datasets.Value("int32")}
    rest = {"duration": datasets.Value("float64"), "labels": datasets.List(datasets.Value(labels))}
    return datasets.Features(texts | rest | numbers).arrow_schema


def content_of(row: Mapping[str, Any]) -> str:
    """Return a hash of a clip's features."""
    features = np.ascontiguousarray(row["input_features"])
    return xxhash.xxh3_128_hexdigest(features.tobytes() + repr((features.shape, features.dtype)).encode())


class ShardWriter:
    """Writes the states and the index of one shard; leaves nothing behind when it is interrupted."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self.clips = 0
        self.numbers_written = 0
        self.digest = xxhash.xxh3_128()
        self.names = (shard_name(number), index_name(number))
        self.states: BinaryIO | None = None
        self.index: Any = None
        self.schema: pa.Schema | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._close()  # on a full disk it fails once more
        finally:
            if any(exception) and not record_path(self.folder, self.number).is_file():
                for name in self.names:
                    (self.folder / (name + UNFINISHED)).unlink(missing_ok=True)
                    (self.folder / name).unlink(missing_ok=True)

    def add(self, rows: Sequence[Mapping[str, Any]], states: Sequence[np.ndarray]) -> None:
        """Write the states (K, S, D) of rows, and their entries in the index.

        Raises:
            UserError: A state is no finite number in float16.
        """
        if self.states is None:
            self._open("float32" if isinstance(rows[0]["labels"][0], float) else "int32")
        assert self.states is not None
        entries = []
        for row, clip in zip(rows, states, strict=True):
            if not np.isfinite(clip).all():
                raise UserError(
                    f"features.bank: expected states that are finite numbers in float16, found others for {row['id']}. "
                    "Set features.bank=off; for a classifier head.layers=last may do."
                )
            place = {"shard": self.number, "offset": self.numbers_written, "states": clip.shape[1]}
            entries.append({name: row[name] for name in KEPT} | place | {"content": content_of(row)})
            numbers = np.ascontiguousarray(clip, dtype=np.float16).tobytes()
            self.states.write(numbers)
            self.digest.update(numbers)
            self.numbers_written += clip.size
        self.index.write_batch(pa.RecordBatch.from_pylist(entries, schema=self.schema))
        self.clips += len(entries)

    def finish(self, rows: range, drops: Drops) -> None:
        """Have all of it on disk, then write the record.

        Args:
            rows: The split's rows that the shard stands for.
            drops: Those among them that could not be encoded.
        """
        self._close()
        files, hashes = {}, {}
        for name in self.names if self.clips else ():
            unfinished = self.folder / (name + UNFINISHED)
            sync(unfinished)
            files[name] = unfinished.stat().st_size
            hashes[name] = self.digest.hexdigest() if name == self.names[0] else hash_of(unfinished)
            unfinished.rename(self.folder / name)
        record = {"rows": [rows.start, rows.stop], "clips": self.clips, "files": files, "xxh3_128": hashes}
        text = json.dumps(record | {"drops": drops.to_dict()}, indent=1, ensure_ascii=False)
        write_whole(record_path(self.folder, self.number), text)

    def _close(self) -> None:
        if self.states is not None:
            self.states.close()
            self.index.close()  # closing it twice would write its end twice
            self.states = None

    def _open(self, labels: str) -> None:
        self.schema = index_schema(labels)
        self.states = (self.folder / (self.names[0] + UNFINISHED)).open("wb")
        self.index = pa.ipc.new_stream(str(self.folder / (self.names[1] + UNFINISHED)), self.schema)


def records(folder: Path) -> list[Path]:
    """Return the records of the shards that are whole, in order."""
    return sorted(folder.glob("states-*.json"))


def read_record(folder: Path, number: int) -> dict[str, Any]:
    """Return what a shard's record says."""
    record: dict[str, Any] = json.loads(record_path(folder, number).read_text("utf-8"))
    return record


def is_written(folder: Path, number: int, rows: range) -> bool:
    """Tell whether a shard for these rows is there, its files as large as they were written."""
    try:
        record = read_record(folder, number)
        sizes = all((folder / name).stat().st_size == size for name, size in record["files"].items())
        return sizes and record["rows"] == [rows.start, rows.stop] and {"clips", "drops", "xxh3_128"} <= record.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # also JSON of another form
        return False


def damaged_file(folder: Path, number: int, *names: str) -> str:
    """Return the name of a shard's file that is not what was written; empty when all are right.

    Args:
        folder: The bank.
        number: The shard.
        names: Files to look at, by default all; one that is missing is damaged. The record's own name is returned when
            it cannot be read.
    """
    try:
        record = read_record(folder, number)
        hashes: dict[str, str] = {name: record["xxh3_128"][name] for name in record["files"]}
        wanted = [name for name in hashes if name in names or not names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # also JSON of another form
        return record_path(folder, number).name
    return next((name for name in wanted if not _is_right(folder / name, hashes[name])), "")


def _is_right(path: Path, written: str) -> bool:
    """Tell whether a file is there, can be read, and has the hash that was written."""
    try:
        return hash_of(path) == written
    except OSError:
        return False


def hash_of(path: Path) -> str:
    """Return the xxHash (XXH3, 128 bits) of a file's content."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(READ_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()


class PartLocks:
    """Locks on the numbered parts of a folder, each held by one process at a time; POSIX locks on bytes of one file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def take(self, part: int, *, wait: bool = False) -> bool:
        """Take a part; return whether it was free, or wait until it is."""
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, part)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            return False
        return True

    def free(self, part: int) -> None:
        """Leave a part to the others."""
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, part)


@contextmanager
def part_locks(folder: Path) -> Iterator[PartLocks]:
    """Give the locks of a folder; a process that is killed leaves its parts free."""
    with open(folder.with_name(folder.name + ".lock"), "wb") as file:
        yield PartLocks(file)


def remove_if_empty(folder: Path) -> None:
    """Remove a folder in which no shard became whole."""
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
