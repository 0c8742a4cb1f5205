"""Shards as files: Parquet as the Hub has it, and WebDataset tars; each whole or absent."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from hf_asr.data.audio import SAMPLE_RATE

# Rows of a row group: what a reader has in memory at once, some 15 MB of FLAC.
ROWS_AT_ONCE = 100
TEXTS = ("id", "text", "speaker", "language", "label")


class ShardFile(Protocol):
    """A shard that is being written."""

    def add(self, row: Mapping[str, Any], audio: bytes, suffix: str) -> None:
        """Append a clip: its fields, and its encoded audio with the ending of such files."""

    def close(self) -> None:
        """Write what is left."""


class ParquetShard:
    """A Parquet file with a column ``audio`` that the Hub plays, and the clip's fields as columns.

    Args:
        path: Where to write.
        extra: Names of the corpus's other columns.
    """

    def __init__(self, path: Path, extra: Sequence[str]) -> None:
        texts = {name: datasets.Value("string") for name in (*TEXTS, *extra)}
        types = {"audio": datasets.Audio(sampling_rate=SAMPLE_RATE), "duration": datasets.Value("float64"), **texts}
        self.schema = datasets.Features(types).arrow_schema
        self.writer = pq.ParquetWriter(path, self.schema, compression="zstd")
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Mapping[str, Any], audio: bytes, suffix: str) -> None:
        """Append a clip."""
        self.rows.append({**row, "audio": {"bytes": audio, "path": f"clip{suffix}"}})
        if len(self.rows) >= ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write the last rows and the footer."""
        self._flush()
        self.writer.close()

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
            self.rows = []


class TarShard:
    """A tar in which each clip is ``NUMBER.flac`` and ``NUMBER.json``; the id stands in the JSON.

    Args:
        path: Where to write.
        extra: Names of the corpus's other columns.
    """

    def __init__(self, path: Path, extra: Sequence[str]) -> None:
        self.archive = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115, closed by close()
        self.extra = extra
        self.number = 0

    def add(self, row: Mapping[str, Any], audio: bytes, suffix: str) -> None:
        """Append a clip."""
        key, self.number = f"{self.number:06d}", self.number + 1
        self._member(f"{key}{suffix}", audio)
        self._member(f"{key}.json", json.dumps(dict(row), ensure_ascii=False).encode())

    def close(self) -> None:
        """Write the end of the archive."""
        self.archive.close()

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # no owner, no time: the same clips give the same bytes
        member.size = len(content)
        self.archive.addfile(member, io.BytesIO(content))


# Form to its writer, the folder below the output's, and how a shard is called.
FORMS: dict[str, tuple[type[ParquetShard] | type[TarShard], str, str]] = {
    "parquet": (ParquetShard, "data", "{split}-{number:05d}.parquet"),
    "webdataset": (TarShard, "", "{split}-{number:06d}.tar"),
}


def finish(part: Path, final: Path) -> tuple[int, str]:
    """Flush a shard to the disk and give it its name; return its bytes and SHA-256."""
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
        os.fsync(file.fileno())
    part.replace(final)
    return final.stat().st_size, digest.hexdigest()
