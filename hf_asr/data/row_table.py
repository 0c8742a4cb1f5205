"""Utterances as a ``datasets`` table on disk: memory stays flat for millions of rows, and for audio kept in the rows.

The table is a file named by the hash of its content, so it can never be stale: a changed TSV gives another name. Where
the file is there already it is used again. It holds no audio but that of corpora which have none in files (Parquet).
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import pyarrow as pa
from datasets.table import MemoryMappedTable

from hf_asr.data.archives import cache_folder
from hf_asr.errors import UserError
from hf_asr.utterance import ROW_TYPES, Utterance

# Rows written at once. A row without audio takes about 400 bytes, one with audio 100 kB.
ROWS_AT_ONCE = 10_000
ROWS_WITH_AUDIO_AT_ONCE = 100


def features_of(types: Mapping[str, Any]) -> datasets.Features:
    """Turn type names such as ``ROW_TYPES`` into ``datasets.Features``; mappings nest."""
    return datasets.Features(
        {name: features_of(type) if isinstance(type, Mapping) else datasets.Value(type) for name, type in types.items()}
    )


ROW_FEATURES = features_of(ROW_TYPES)
_READ = {name: attrgetter(name) for name in ROW_TYPES if name not in ("audio", "extra")}
_AUDIO = tuple(ROW_TYPES["audio"])
_READ_AUDIO = attrgetter(*_AUDIO)


def table_of(read: Callable[[], Iterator[Utterance]]) -> datasets.Dataset:
    """Return the utterances as a memory-mapped table.

    Args:
        read: Reads the utterances. It is called a second time when they hold audio that is not on disk yet: reading
            gigabytes again is better than every process writing them.

    Raises:
        UserError: The cache folder cannot be written.
    """
    utterances = read()
    first = next(utterances, None)
    if first is None:
        return datasets.Dataset.from_dict({name: [] for name in ROW_FEATURES}, features=ROW_FEATURES)
    utterances = chain([first], utterances)
    folder = cache_folder("rows")
    if first.audio.data is not None:
        path = folder / f"{_hash(utterances)}.arrow"
        if path.exists():
            return open_table(path)
        utterances = read()
    at_once = ROWS_AT_ONCE if first.audio.data is None else ROWS_WITH_AUDIO_AT_ONCE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return open_table(_write(folder, utterances, at_once))
    except OSError as error:
        raise UserError(
            f"expected to write the list of clips into {folder}, found that this fails: {error.strerror}. Set "
            "HF_ASR_CACHE to a folder that can be written and has space."
        ) from error


def open_table(path: Path) -> datasets.Dataset:
    """Return a table that was written, mapped into memory."""
    return datasets.Dataset(MemoryMappedTable.from_file(str(path)), fingerprint=path.stem)


def write_table(path: Path, utterances: Iterator[Utterance]) -> None:
    """Write utterances, with the audio that they hold, as a table that is whole or absent."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "wb") as file:
            _write_rows(file, utterances, ROWS_WITH_AUDIO_AT_ONCE)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write(folder: Path, utterances: Iterator[Utterance], at_once: int) -> Path:
    """Write under a name of its own, then rename to the hash of what was written."""
    part = folder / f".{uuid.uuid4().hex}.part"
    try:
        with open(part, "wb") as file:
            path = folder / f"{_write_rows(file, utterances, at_once)}.arrow"
            file.flush()
            os.fsync(file.fileno())
        if not path.exists():
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _write_rows(file: BinaryIO, utterances: Iterator[Utterance], at_once: int) -> str:
    """Write a table block by block; return the hash of its rows."""
    digest, schema = _start(), ROW_FEATURES.arrow_schema
    with pa.ipc.new_stream(file, schema) as writer:
        while block := list(islice(utterances, at_once)):
            for utterance in block:
                digest.update(_content(utterance))
            writer.write_table(pa.Table.from_pydict(_columns(block), schema=schema))
    return digest.hexdigest()


def _columns(utterances: list[Utterance]) -> dict[str, list[Any]]:
    """Return ``Utterance.as_row`` of many, by column: 4 us a row in place of 24."""
    columns: dict[str, list[Any]] = {
        name: [read(utterance) for utterance in utterances] for name, read in _READ.items()
    }
    audio = [dict(zip(_AUDIO, _READ_AUDIO(utterance.audio), strict=True)) for utterance in utterances]
    extra = [json.dumps(dict(utterance.extra), ensure_ascii=False, sort_keys=True) for utterance in utterances]
    return columns | {"audio": audio, "extra": extra}


def _hash(utterances: Iterator[Utterance]) -> str:
    digest = _start()
    for utterance in utterances:
        digest.update(_content(utterance))
    return digest.hexdigest()


def _start() -> hashlib.blake2b:
    return hashlib.blake2b(repr(ROW_TYPES).encode(), digest_size=16)


def _content(utterance: Utterance) -> bytes:
    """Return everything that an utterance is, audio as its hash."""
    audio = utterance.audio
    data = None if audio.data is None else hashlib.blake2b(audio.data, digest_size=16).digest()
    place = (audio.path, data, audio.offset, audio.size, audio.start, audio.end)
    names = (utterance.id, utterance.text, utterance.speaker, utterance.language, utterance.corpus, utterance.label)
    return repr((names, place, utterance.duration, sorted(utterance.extra.items()))).encode()
