"""Any data set of the Hub or on disk that ``datasets`` loads without code: Parquet, Arrow, JSON, WebDataset ...

Audio is read undecoded (``Audio(decode=False)``) and decoded by hf_asr.data.audio, so neither torchcodec nor FFmpeg is
needed. Common Voice mirrors need no settings: ``audio``, ``sentence``, ``client_id`` and the votes are known names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet
from datasets.exceptions import DatasetsError
from datasets.utils.file_utils import xopen

from hf_asr.config.arguments import DataArguments
from hf_asr.data.columns import SPLIT_NAMES, Columns, outvoted, unique_ids
from hf_asr.data.listing import needed_roles
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

# Footers read at once: of a thousand files on the Hub in seconds.
_THREADS = 16
_SAVED = ("state.json", "dataset_dict.json")  # what save_to_disk leaves


def read_hub(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the rows of one split of a data set, undecoded.

    Args:
        data: The ``data`` section: ``name`` is a Hub id or a folder, ``path`` a folder or a Parquet file, ``subset``
            the configuration, ``columns`` the names of columns, ``streaming`` leaves the files where they are.
        split: Name of the split.
        drops: Takes ``votes`` (data.filter_votes), ``missing_audio`` (a row without bytes or file), ``duplicate_id``.

    Raises:
        UserError: There is no such data set (here, while offline), configuration, split or column.
    """
    name = data.name or data.path
    if not name:
        raise UserError("data.corpus hub needs data.name, a Hub id such as ORG/NAME or a folder")
    # Where a folder lies must decide neither an id nor, by its hash, the side of a held-out line.
    label = Path(name).resolve().name if os.path.exists(name) else name
    folder = name if os.path.isdir(name) else os.path.dirname(name)
    yield from unique_ids(_utterances(_load(name, data, split), name, split, label, 0, folder, data, drops), drops)


@dataclass(frozen=True)
class ParquetShards:
    """The Parquet files of a split.

    Attributes:
        label: What ids of rows without any begin with: the data set's name.
        files: Paths, or addresses of the Hub.
        rows: How many rows each has, by its footer.
    """

    label: str
    files: tuple[str, ...]
    rows: tuple[int, ...]


def parquet_shards(data: DataArguments, split: str) -> ParquetShards | None:
    """Return the Parquet files of a split, or None where the data set is kept in another form.

    Raises:
        UserError: There is no such data set, configuration or split.
    """
    name = data.name or data.path or ""
    if os.path.exists(name) and any((Path(name) / file).exists() for file in _SAVED):
        return None
    label = Path(name).resolve().name if os.path.exists(name) else name
    if name.endswith(".parquet"):
        files = [name]
    else:
        with _told_when_it_fails(name):
            found = datasets.load_dataset_builder(name, data.subset).config.data_files or {}
        files = [str(path) for path in _pick(dict(found), name, split)] if found else []
    if not files or not all(path.endswith(".parquet") for path in files):
        return None
    with _told_when_it_fails(name), ThreadPoolExecutor(_THREADS) as threads:
        rows = list(threads.map(_rows_in, files))
    return ParquetShards(label, tuple(files), tuple(rows))


def read_parquet(
    path: str, label: str, first: int, data: DataArguments, split: str, drops: Drops
) -> Iterator[Utterance]:
    """Yield the rows of one Parquet file on this machine, named as :func:`read_hub` names them.

    Args:
        path: The file.
        label: From :class:`ParquetShards`.
        first: Rows of the files before it.
        data: The ``data`` section.
        split: Name of the split.
        drops: As for :func:`read_hub`.
    """
    rows = _load(path, replace(data, streaming=True), split)
    found = _utterances(rows, path, split, label, first, os.path.dirname(path), data, drops)
    try:
        yield from unique_ids(found, drops)
    except (pyarrow.ArrowException, DatasetsError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        drops.add("truncated_shard", os.path.basename(path), f"damaged ({reason}); the clips before are used")


def _rows_in(path: str) -> int:
    try:
        with xopen(path, "rb") as file:
            return int(pyarrow.parquet.read_metadata(file).num_rows)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is cut or damaged ({str(error).splitlines()[0]}); fetch it again") from None


def _utterances(
    rows: Any, name: str, split: str, label: str, first: int, folder: str, data: DataArguments, drops: Drops
) -> Iterator[Utterance]:
    where = f"{name} ({split})"
    # A stream of JSON has no schema: its first row tells the columns.
    found = rows.column_names or list(next(iter(rows), {}))
    if not found:
        raise UserError(f"the data set {where} is empty; expected rows with audio and text")
    columns = Columns.choose(found, _with_audio(rows, data.columns), where, needed_roles(data))
    if rows.features:
        rows = rows.cast_column(columns.names["audio"], datasets.Audio(decode=False))
    for index, row in enumerate(rows, first):
        utterance = _utterance(row, f"{label}-{split}-{index}", columns, folder, data, drops)
        if utterance is not None:
            yield utterance


def _load(name: str, data: DataArguments, split: str) -> Any:
    """Load one split, map-style or streamed."""
    with _told_when_it_fails(name):
        if os.path.exists(name) and any((Path(name) / file).exists() for file in _SAVED):
            return _saved(name, split)
        if name.endswith(".parquet"):
            return datasets.load_dataset("parquet", data_files={split: name}, split=split, streaming=data.streaming)
        loaded = datasets.load_dataset(name, data.subset, streaming=data.streaming)
    return _pick(loaded, name, split)


@contextmanager
def _told_when_it_fails(name: str) -> Iterator[None]:
    """Turn what datasets says of a data set that it cannot load into one message."""
    is_local = os.path.exists(name)
    try:
        yield
    except (OSError, ValueError, DatasetsError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]  # the cause names the file that is damaged
        offline = " with the Hub switched on (HF_HUB_OFFLINE is set)" if datasets.config.HF_HUB_OFFLINE else ""
        where = "" if is_local else f". There is no such folder: check data.name, give a folder, or fetch it{offline}"
        raise UserError(f"the data set {name} cannot be loaded: {reason}{where}") from error


def _saved(name: str, split: str) -> Any:
    loaded = datasets.load_from_disk(name)
    return _pick(loaded if isinstance(loaded, dict) else {split: loaded}, name, split)


def _pick(splits: dict[str, Any], name: str, split: str) -> Any:
    """Return a split, by its name or by another corpus's word for it."""
    for known in (split, *SPLIT_NAMES.get(split, ())):
        if known in splits:
            return splits[known]
    raise UserError(f"the data set {name} has no split {split}; its splits are {', '.join(splits)}; see data.splits")


def _with_audio(rows: Any, given: dict[str, str]) -> dict[str, str]:
    """Add the column that has the type Audio: Common Voice mirrors also have a ``path`` that is only a name."""
    typed = [name for name, kind in (rows.features or {}).items() if isinstance(kind, datasets.Audio)]
    return {**({"audio": typed[0]} if typed else {}), **given}


def _utterance(
    row: dict[str, Any], id: str, columns: Columns, folder: str, data: DataArguments, drops: Drops
) -> Utterance | None:
    id = columns.text(row, "id") or id
    if data.filter_votes and (votes := outvoted(row)):
        drops.add("votes", id, votes)
        return None
    audio = _audio(row.get(columns.names["audio"]), folder)
    if audio is None:
        drops.add("missing_audio", id, f"neither bytes nor a file in column {columns.names['audio']}")
        return None
    return columns.utterance(row, audio, id, "hub", data.language or "")


def _audio(value: Any, folder: str) -> AudioRef | None:
    """Turn an undecoded Audio cell, or the path in a column of text, into a reference; None where there is nothing."""
    cell: Mapping[str, Any] = {"path": value} if isinstance(value, str) else (value or {})
    path = cell.get("path") or ""
    if cell.get("bytes"):
        return AudioRef(path=path, data=cell["bytes"])
    if "://" in path:  # a streamed data set of files leaves them where they are
        with xopen(path, "rb") as file:
            return AudioRef(path=path, data=file.read())
    place = os.path.join(folder, path)
    return AudioRef(path=place) if path and os.path.isfile(place) else None
