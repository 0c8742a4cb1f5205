"""The bank: states of a frozen encoder, computed once, kept on disk and read in every epoch.

A bank is one folder, ``<cache_dir>/bank-<split>-<hash>/``: shards of float16 numbers, ``index.arrow`` with a row for
each clip (its id, text, label, labels, and where its states lie), and ``manifest.json``, written last. A clip's states
are (K, S, D): K layers, its own S states without padding, D numbers each. The folder is filled under another name and
renamed when it is whole. Shards are memory-mapped: all workers and processes of a machine share one copy in its memory.

The states of a clip that another bank of the same encoder holds already, such as another fold's, are copied from there.

The hash covers what the states are a function of: the encoder's weights and settings, the layers kept, the arithmetic,
and the rows with everything that decides their features.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import numpy as np
import pyarrow as pa
import xxhash
from torch.utils.data import Dataset

from hf_asr.config.arguments import FeatureArguments
from hf_asr.errors import UserError
from hf_asr.features.cache import MANIFEST, LiveRows, PreparedSplit, cache_dir, is_whole
from hf_asr.features.fingerprint import rows_hash
from hf_asr.features.storage import only_one, renamed_when_whole, sync
from hf_asr.utterance import Drops, Seconds

logger = logging.getLogger(__name__)

INDEX = "index.arrow"
SHARD_BYTES = 2**30
BYTES_OF_A_NUMBER = 2
BYTES_OF_A_ROW = 400
GB = 1e9
# From encoded rows without errors to their states, (K, S, D) float16 each.
Encode = Callable[[Sequence[Mapping[str, Any]]], list[np.ndarray]]


@dataclass(frozen=True)
class BankShape:
    """What a second of audio takes.

    Attributes:
        layers: K.
        width: D.
        states_per_second: S of one second.
    """

    layers: int
    width: int
    states_per_second: float

    def forecast(self, seconds: Seconds, rows: int) -> int:
        """Return the bytes that so much audio takes."""
        states = math.ceil(seconds * self.states_per_second) + rows
        return states * self.layers * self.width * BYTES_OF_A_NUMBER + rows * BYTES_OF_A_ROW


class BankedRows(Dataset[dict[str, Any]]):
    """Encoded rows whose ``input_features`` are states (K, S, D), float16, read from a bank."""

    def __init__(self, folder: Path, table: datasets.Dataset, layers: int, width: int) -> None:
        self.folder = folder
        self.table = table
        self.layers = layers
        self.width = width
        self._shards: dict[int, np.memmap[Any, np.dtype[np.float16]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open shards out: a worker maps the files itself."""
        return self.__dict__ | {"_shards": {}}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self.table[index]
        shard, offset, states, _ = (row.pop(name) for name in ("shard", "offset", "states", "content"))
        size = self.layers * states * self.width
        numbers = self._shard(shard)[offset : offset + size].reshape(self.layers, states, self.width)
        return row | {"input_features": numbers, "error": ""}

    def _shard(self, number: int) -> np.memmap[Any, np.dtype[np.float16]]:
        if number not in self._shards:
            self._shards[number] = np.memmap(self.folder / shard_name(number), dtype=np.float16, mode="r")
        return self._shards[number]


def bank_split(
    prepared: PreparedSplit,
    encode: Encode,
    *,
    shape: BankShape,
    settings: Mapping[str, Any],
    features: FeatureArguments,
    batch_size: int,
) -> PreparedSplit:
    """Return the split with its encoder's states in place of its features: from its bank, else written into it.

    Several processes may call it for one split at once: the first to come writes, the others wait and reuse.

    Args:
        prepared: The split; not a stream.
        encode: Runs the encoder.
        shape: What a bank of it holds.
        settings: What else decides the states, JSON-able: weights, arithmetic.
        features: The ``features`` section.
        batch_size: Clips encoded together.

    Raises:
        UserError: The bank cannot be written, does not fit, or a state is no finite number.
    """
    what = {"rows": identity_of(prepared), "layers": shape.layers, "width": shape.width, **settings}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]
    folder = cache_dir(features) / f"bank-{re.sub(r'[^A-Za-z0-9_.-]+', '_', prepared.name)[-60:]}-{digest}"
    reused = is_whole(folder)
    if not reused:
        check_room([prepared], shape, features)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with only_one(folder):
                reused = is_whole(folder)
                if not reused:
                    with renamed_when_whole(folder) as unfinished:
                        _write(unfinished, prepared, encode, shape, what, batch_size)
        except OSError as error:
            raise UserError(
                f"features.bank: expected room to write in {folder.parent}, found: {error.strerror}; what was begun is "
                "removed. Set features.cache_dir to another place, or features.bank=off."
            ) from error
    return _open(folder, prepared, shape, reused)


def identity_of(prepared: PreparedSplit) -> str:
    """Return a hash of a split's rows and of everything that decides their features."""
    if prepared.folder is not None:
        return prepared.folder.name
    assert isinstance(prepared.rows, LiveRows), "a bank is made of cached or live rows"
    settings = {"encoder": prepared.rows.encoder.fingerprint(), "rows": rows_hash(prepared.rows.table)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def seconds_of(prepared: PreparedSplit) -> Seconds:
    """Return the length of a split's clips together."""
    return math.fsum(seconds for seconds in prepared.column("duration") if seconds is not None)


def check_room(splits: Sequence[PreparedSplit], shape: BankShape, features: FeatureArguments) -> None:
    """See that banks of these splits fit.

    Raises:
        UserError: They take more than ``features.bank_max_gb``, or than the disk has.
    """
    problem = why_no_room(splits, shape, features)
    if problem:
        raise UserError(f"features.bank: {problem}")


def why_no_room(splits: Sequence[PreparedSplit], shape: BankShape, features: FeatureArguments) -> str:
    """Return why banks of these splits do not fit, as "expected ..., found ...; what to do"; empty when they do."""
    needed = sum(shape.forecast(seconds_of(split), len(split.rows)) for split in splits)
    place = next(path for path in (cache_dir(features), *cache_dir(features).absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    names = ", ".join(split.name for split in splits)
    logger.info(
        "bank of %s: %.2f GB needed, %.2f GB free, features.bank_max_gb is %g",
        names,
        needed / GB,
        free / GB,
        features.bank_max_gb,
    )
    if needed > features.bank_max_gb * GB:
        return (
            f"expected at most features.bank_max_gb={features.bank_max_gb:g} GB of states, found {needed / GB:.2f} GB "
            f"({shape.layers} x {shape.width} numbers a state). Raise it, set head.layers=last, or features.bank=off."
        )
    if needed > free:
        return (
            f"expected {needed / GB:.2f} GB free in {place}, found {free / GB:.2f} GB. Set features.cache_dir to "
            "another disk, or features.bank=off."
        )
    return ""


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"states-{number:05d}.bin"


class ShardWriter:
    """Writes states one behind the other into files of about ``SHARD_BYTES``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = -1
        self.numbers_written = 0
        self.file: BinaryIO | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.file is not None:
            self.file.close()

    def add(self, states: np.ndarray) -> tuple[int, int]:
        """Write states; return (shard, place of their first number in it)."""
        if self.file is None or self.numbers_written * BYTES_OF_A_NUMBER >= SHARD_BYTES:
            self.__exit__()
            self.number, self.numbers_written = self.number + 1, 0
            self.file = (self.folder / shard_name(self.number)).open("wb")
        place = self.numbers_written
        self.file.write(np.ascontiguousarray(states, dtype=np.float16).tobytes())
        self.numbers_written += states.size
        return self.number, place


def index_schema(labels: str) -> pa.Schema:
    """Return the columns of an index; ``labels`` is the type of a label."""
    texts = {name: datasets.Value("string") for name in ("id", "text", "label", "speaker")}
    texts["content"] = datasets.Value("string")
    numbers = {"shard": datasets.Value("int32"), "offset": datasets.Value("int64"), "states": datasets.Value("int32")}
    rest = {"duration": datasets.Value("float64"), "labels": datasets.List(datasets.Value(labels))}
    return datasets.Features(texts | rest | numbers).arrow_schema


def _write(
    folder: Path,
    prepared: PreparedSplit,
    encode: Encode,
    shape: BankShape,
    what: Mapping[str, Any],
    batch_size: int,
) -> None:
    drops, clips, known = Drops(), 0, KnownStates(folder.parent, shape, what)
    for first, batch in _batches(prepared, batch_size, drops):
        if first:
            schema = index_schema("float32" if isinstance(batch[0]["labels"][0], float) else "int32")
            index = pa.ipc.new_stream(str(folder / INDEX), schema)
            shards = ShardWriter(folder)
        index.write_batch(_entries(batch, known.states(batch, encode), shards, schema))
        clips += len(batch)
    if not clips:
        found = "; ".join(drops.lines(3)) or "no clip at all"
        raise UserError(f"{prepared.name}: expected clips to encode, found none left: {found}. Check data.path.")
    shards.__exit__()
    index.close()
    _write_manifest(folder, shape, what, drops, clips)


class KnownStates:
    """Finds states in the banks that the same encoder has filled, by the content of a clip's features.

    Args:
        folder: Where banks are.
        shape: What they hold.
        what: Settings of the bank that is being written.
    """

    def __init__(self, folder: Path, shape: BankShape, what: Mapping[str, Any]) -> None:
        self.places: dict[str, tuple[BankedRows, int]] = {}
        for path in sorted(folder.glob(f"bank-*/{MANIFEST}")):
            bank = path.parent
            if not is_whole(bank) or _without_rows(json.loads(path.read_text("utf-8"))["settings"]) != _without_rows(
                what
            ):
                continue
            rows = BankedRows(bank, datasets.Dataset.from_file(str(bank / INDEX)), shape.layers, shape.width)
            self.places |= {content: (rows, index) for index, content in enumerate(rows.table["content"])}

    def states(self, batch: Sequence[Mapping[str, Any]], encode: Encode) -> list[np.ndarray]:
        """Return the states of a batch: those that are known, and the others encoded together."""
        found = [self.places.get(content_of(row)) for row in batch]
        new = [row for row, place in zip(batch, found, strict=True) if place is None]
        encoded = iter(encode(new) if new else [])
        return [next(encoded) if place is None else place[0][place[1]]["input_features"] for place in found]


def content_of(row: Mapping[str, Any]) -> str:
    """Return a hash of a clip's features."""
    features = np.ascontiguousarray(row["input_features"])
    return xxhash.xxh3_128_hexdigest(features.tobytes() + repr((features.shape, features.dtype)).encode())


def _without_rows(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "rows"}


def _batches(prepared: PreparedSplit, batch_size: int, drops: Drops) -> Iterator[tuple[bool, list[Mapping[str, Any]]]]:
    """Yield batches of the rows that can be used, and whether each is the first."""
    rows: Any = prepared.rows
    first, batch = True, list[Mapping[str, Any]]()
    for index in range(len(rows)):
        row = rows[index]
        if row["error"]:
            reason, _, detail = row["error"].partition(": ")
            drops.add(reason, row["id"], detail)
        else:
            batch.append(row)
        if batch and (len(batch) == batch_size or index == len(rows) - 1):
            yield first, batch
            first, batch = False, []


def _entries(
    batch: Sequence[Mapping[str, Any]], states: Sequence[np.ndarray], shards: ShardWriter, schema: pa.Schema
) -> pa.RecordBatch:
    """Write the states of a batch and return its rows of the index."""
    entries = []
    for row, clip in zip(batch, states, strict=True):
        if not np.isfinite(clip).all():
            raise UserError(
                f"features.bank: expected states that are finite numbers in float16, found others for {row['id']}. Set "
                "features.bank=off, or head.layers=last."
            )
        shard, offset = shards.add(clip)
        kept = {name: row[name] for name in ("id", "text", "label", "speaker", "duration", "labels")}
        place = {"shard": shard, "offset": offset, "states": clip.shape[1], "content": content_of(row)}
        entries.append(kept | place)
    return pa.RecordBatch.from_pylist(entries, schema=schema)


def _write_manifest(folder: Path, shape: BankShape, what: Mapping[str, Any], drops: Drops, clips: int) -> None:
    """Write what is in a bank, after everything else is on disk."""
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    for name in files:
        sync(folder / name)
    manifest = {
        "settings": dict(what),
        "files": files,
        "clips": clips,
        "layers": shape.layers,
        "feature_size": shape.width,
        "drops": drops.to_dict(),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), "utf-8")
    sync(folder / MANIFEST)


def _open(folder: Path, prepared: PreparedSplit, shape: BankShape, reused: bool) -> PreparedSplit:
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    table = datasets.Dataset.from_file(str(folder / INDEX))
    size = sum(manifest["files"].values())
    logger.info(
        "bank of %s: %d clips, %.2f GB, %s %s",
        prepared.name,
        len(table),
        size / GB,
        "reused from" if reused else "in",
        folder,
    )
    drops = Drops()
    for part in (prepared.drops, Drops.from_dict(manifest["drops"])):
        drops.merge(part)
    rows: Any = BankedRows(folder, table, shape.layers, shape.width)
    return replace(prepared, rows=rows, table=table, drops=drops, folder=folder, reused=reused)
