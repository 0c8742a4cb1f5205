"""Reading a bank: rows whose features are states on disk, and states that another bank of the same encoder holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from torch.utils.data import Dataset

from hf_asr.features import bank_shards
from hf_asr.features.bank_room import BankShape
from hf_asr.features.bank_shards import Encode, content_of, index_name, shard_name
from hf_asr.features.cache import MANIFEST, is_whole


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


class KnownStates:
    """Finds states in the banks that the same encoder has filled, by the content of a clip's features.

    Nothing is taken from a shard that is not what was written.

    Args:
        folder: The bank that is being written.
        what: Everything that decides its states.
        shape: What it holds.
    """

    def __init__(self, folder: Path, what: Mapping[str, Any], shape: BankShape) -> None:
        self.places: dict[str, tuple[BankedRows, int]] = {}
        self.right: dict[Path, bool] = {}
        for bank in sorted(path.parent for path in folder.parent.glob(f"bank-*/{MANIFEST}")):
            if bank == folder or not is_whole(bank) or not _same_encoder(bank, what):
                continue
            numbers = range(read_manifest(bank)["shards"])
            shards = [number for number in numbers if not bank_shards.damaged_file(bank, number, index_name(number))]
            rows = BankedRows(bank, _index_of(bank, shards), shape.layers, shape.width)
            self.places |= {content: (rows, index) for index, content in enumerate(rows.table["content"])}

    def states(self, batch: Sequence[Mapping[str, Any]], encode: Encode) -> list[np.ndarray]:
        """Return the states of a batch: those that are known, and the others encoded together."""
        found = [self._known(content_of(row)) if self.places else None for row in batch]
        new = [row for row, known in zip(batch, found, strict=True) if known is None]
        encoded = iter(encode(new) if new else [])
        return [next(encoded) if known is None else known for known in found]

    def _known(self, content: str) -> np.ndarray | None:
        if content not in self.places:
            return None
        rows, index = self.places[content]
        number = rows.table[index]["shard"]
        path = rows.folder / shard_name(number)
        if path not in self.right:
            self.right[path] = not bank_shards.damaged_file(rows.folder, number, path.name)
        states: np.ndarray | None = rows[index]["input_features"] if self.right[path] else None
        return states


def read_index(folder: Path) -> datasets.Dataset:
    """Return the rows of a whole bank, in the split's order."""
    return _index_of(folder, range(read_manifest(folder)["shards"]))


def _index_of(folder: Path, shards: Sequence[int]) -> datasets.Dataset:
    """Return the rows of some shards; one whose clips were all broken has no index."""
    files = read_manifest(folder)["files"]
    names = [index_name(number) for number in shards]
    parts = [datasets.Dataset.from_file(str(folder / name)) for name in names if name in files]
    return datasets.concatenate_datasets(parts) if parts else datasets.Dataset.from_dict({"content": []})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what is in a bank."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    return manifest


def _same_encoder(bank: Path, what: Mapping[str, Any]) -> bool:
    found = read_manifest(bank)["settings"]
    return found | {"rows": ""} == {**what, "rows": ""}
