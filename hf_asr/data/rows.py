"""Utterances as a ``datasets`` table on disk: memory stays flat for millions of rows, and for audio kept in the rows.

The table is a file named by the hash of its content, so it can never be stale: a changed TSV gives another name. Where
the file is there already it is used again, so that of several processes, or runs, one writes. It holds no audio but
that of corpora which have none in files (Parquet).
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import batched
from pathlib import Path
from typing import Any

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


def table_of(read: Callable[[], Iterator[Utterance]]) -> datasets.Dataset:
    """Return the utterances as a memory-mapped table.

    Args:
        read: Reads the utterances; called once to learn their hash, and once more when they are not on disk yet.

    Raises:
        UserError: The cache folder cannot be written, or the corpus changed while it was read.
    """
    key, count = _hash(read())
    if not count:
        return datasets.Dataset.from_dict({name: [] for name in ROW_FEATURES}, features=ROW_FEATURES)
    folder = cache_folder("rows")
    path = folder / f"{key}.arrow"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, key, read)
        except OSError as error:
            raise UserError(
                f"expected to write the list of clips below {folder}, found that this fails: {error.strerror}. Set "
                "HF_ASR_CACHE to a folder with space that can be written."
            ) from error
    return datasets.Dataset(MemoryMappedTable.from_file(str(path)), fingerprint=key)


def _write(path: Path, key: str, read: Callable[[], Iterator[Utterance]]) -> None:
    """Write under another name, and rename when it is whole and still what was hashed."""
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(part, "wb") as file:
            digest = _write_rows(file, read())
            file.flush()
            os.fsync(file.fileno())
        if digest != key:
            raise UserError("expected the corpus to stay as it is while it is read, found it changed. Start again.")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_rows(file: Any, utterances: Iterator[Utterance]) -> str:
    digest = _start()
    first = next(utterances)
    digest.update(_content(first))
    schema = ROW_FEATURES.arrow_schema
    with pa.ipc.new_stream(file, schema) as writer:
        writer.write_table(pa.Table.from_pylist([first.as_row()], schema=schema))
        for block in batched(utterances, ROWS_AT_ONCE if first.audio.data is None else ROWS_WITH_AUDIO_AT_ONCE):
            for utterance in block:
                digest.update(_content(utterance))
            writer.write_table(pa.Table.from_pylist([utterance.as_row() for utterance in block], schema=schema))
    return digest.hexdigest()


def _hash(utterances: Iterator[Utterance]) -> tuple[str, int]:
    digest, count = _start(), 0
    for count, utterance in enumerate(utterances, start=1):
        digest.update(_content(utterance))
    return digest.hexdigest(), count


def _start() -> hashlib._Hash:
    return hashlib.blake2b(repr(ROW_TYPES).encode(), digest_size=16)


def _content(utterance: Utterance) -> bytes:
    """Return everything that an utterance is, audio as its hash."""
    audio = utterance.audio
    data = None if audio.data is None else hashlib.blake2b(audio.data, digest_size=16).digest()
    place = (audio.path, data, audio.offset, audio.size, audio.start, audio.end)
    names = (utterance.id, utterance.text, utterance.speaker, utterance.language, utterance.corpus, utterance.label)
    return repr((names, place, utterance.duration, sorted(utterance.extra.items()))).encode()
