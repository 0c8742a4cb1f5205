"""Shards of a stream: files that hold many clips each, opened one after the other, from this machine or another.

Opening a shard fetches it if it is far away, filters its clips and writes them into the cache as a table that any
worker can read at any row. Beside it stands a list of what it holds (``.json``), small enough to be kept for ever: to
go through an order again takes the lists alone. Tables, and the shards that were fetched, are removed again, those not
read for longest first, when they take more than ``data.shard_cache_gb``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import datasets
from filelock import FileLock

from hf_asr.data import gigaspeech, webdataset
from hf_asr.data.archives import cache_folder, file_key
from hf_asr.data.hub_dataset import parquet_shards, read_parquet
from hf_asr.data.remote import Unreachable, fetch, is_remote
from hf_asr.data.repeated_ids import SeenIds, packed, unpacked
from hf_asr.data.resolve import Source
from hf_asr.data.row_table import open_table, write_table
from hf_asr.data.selection import BROKEN, keep
from hf_asr.errors import UserError
from hf_asr.files import write_whole
from hf_asr.utterance import Drops, Seconds, Utterance

_LOG = logging.getLogger(__name__)

# Raise it when the same shard would be listed otherwise.
VERSION = 2
# What was read so lately stays, whatever it takes: another process is about to read it again.
RECENT = 120.0
# Tables that a process keeps open, and how often it says that it still reads one.
OPEN_TABLES = 16
# Lists that a process keeps in memory: those that a shuffle buffer reaches into.
OPEN_LISTS = 64
TOUCHED = 20.0
# Repeated ids that a message names.
NAMED = 5
# Keys of the data section that decide what a shard gives.
DECIDES = ("corpus", "subset", "language", "columns", "filter_votes", "min_seconds", "max_seconds", "text_pipeline")


class ReadShard(Protocol):
    """Reads the clips of one shard that lies on this machine."""

    def __call__(self, path: str, drops: Drops) -> Iterator[Utterance]: ...


@dataclass(frozen=True)
class Shard:
    """One file of a stream.

    Attributes:
        address: Its path, or its address on another machine.
        read: Reads it once it is on this machine.
        rows: How many rows it says it has, before any is left out; None when it does not say.
    """

    address: str
    read: ReadShard
    rows: int | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True)
class Contents:
    """What a shard holds.

    Attributes:
        seconds: Length of each clip.
        drops: What was left out.
        file: The shard as it was fetched, when its clips are read from it; empty when it lies where it did.
        ids: Hashes of the clips' ids.
    """

    seconds: list[Seconds | None]
    drops: Drops = field(default_factory=Drops)
    file: str = ""
    ids: str = ""


def find_shards(source: Source) -> list[Shard]:
    """Return the shards of a source; none for a corpus whose clips are listed without them.

    Raises:
        UserError: There is no such data set or split.
    """
    data, corpus = source.data, source.data.corpus
    found: list[Shard] = []
    for split in source.splits:
        if corpus == "webdataset":
            found += [Shard(a, partial(_read_tar, source=source)) for a in webdataset.shards_of(data, split)]
        elif corpus in ("hub", "gigaspeech"):
            found += _parquet(source, split)
    return found


def _parquet(source: Source, split: str) -> list[Shard]:
    form = (source.data, split) if source.data.corpus == "hub" else gigaspeech.parquet_form(source.data, split)
    files = parquet_shards(*form) if form else None
    if form is None or files is None:
        return []
    first = [sum(files.rows[:index]) for index in range(len(files.files))]
    return [
        Shard(file, partial(_read_parquet, source=source, split=form[1], label=files.label, first=before), rows)
        for file, before, rows in zip(files.files, first, files.rows, strict=True)
    ]


def _read_tar(path: str, drops: Drops, *, source: Source) -> Iterator[Utterance]:
    return webdataset.read_shard(path, source.data, drops)


def _read_parquet(
    path: str, drops: Drops, *, source: Source, split: str, label: str, first: int
) -> Iterator[Utterance]:
    rows = read_parquet(path, label, first, source.data, split, drops)
    return gigaspeech.cleaned(rows, drops) if source.data.corpus == "gigaspeech" else rows


class ShardedSource:
    """A source of a stream that is read shard by shard.

    Args:
        source: What is read.
        shards: Its shards.
        split: Name of the split.
        prefix: Put before every id, so that two sources of a mixture cannot give one id twice.
    """

    def __init__(self, source: Source, shards: Sequence[Shard], split: str, prefix: str = "") -> None:
        self.source = source
        self.shards = list(shards)
        self.split = split
        self.prefix = prefix
        self.folder = cache_folder("shards")
        self.failed: dict[str, str] = {}
        self.drops: list[tuple[str, str]] = []
        self._contents: dict[int, Contents] = {}
        self._told: set[int] = set()
        self._seen = SeenIds()
        self._tables: dict[int, tuple[datasets.Dataset, str, float]] = {}

    by_shard = True

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return len(self.shards)

    @property
    def expected(self) -> int | None:
        """How many clips there are at most; None where the shards do not say."""
        if all(shard.rows is not None for shard in self.shards):
            return sum(shard.rows or 0 for shard in self.shards)
        if any(is_remote(shard.address) for shard in self.shards):
            return None
        return sum(self.size(index) for index in range(self.num_shards))

    def size(self, index: int) -> int:
        """Return the clips of a shard, opening it when nobody has listed it yet.

        Raises:
            UserError: It cannot be had, and ``data.on_bad_clip`` is ``raise``.
        """
        return len(self.contents(index).seconds)

    def promised(self, index: int) -> int:
        """Return the clips that a shard has at most."""
        rows = self.shards[index].rows
        return self.size(index) if rows is None else rows

    def seconds(self, index: int, row: int) -> Seconds | None:
        """Return the length of a clip."""
        return self.contents(index).seconds[row]

    def soon(self, index: int) -> None:
        """Open a shard in the background; what goes wrong there is told when the shard is asked for."""
        if index not in self._contents and not self._listed(index).is_file():
            threading.Thread(target=self._try_to_open, args=(index,), daemon=True).start()

    def contents(self, index: int) -> Contents:
        """Return what a shard holds; what was left out of it goes to ``drops``, once."""
        if index not in self._contents:
            self._contents[index] = found = self._open_or_skip(index)
            while len(self._contents) > OPEN_LISTS:
                self._contents.pop(next(iter(self._contents)))
            if index not in self._told:
                self._told.add(index)
                reasons = found.drops.reasons.items()
                self.drops += [(id, f"{reason}: {detail}") for reason, items in reasons for id, detail in items]
                self._tell_repeated(index, self._seen.add(index, unpacked(found.ids)))
        return self._contents[index]

    def _tell_repeated(self, index: int, found: Sequence[tuple[int, int]]) -> None:
        """Tell which ids of a shard an earlier one has; all of them are trained on, or none where that is wanted.

        Which shards a process opens, and in which order, differs: leaving out the later clip would leave out another
        one on every process and in every epoch.
        """
        if not found:
            return
        some = ", ".join(f"{self.row(index, row)['id']} (in {self.shards[other].name})" for row, other in found[:NAMED])
        what = (
            f"expected every id once, found {len(found):,} of {self.shards[index].address} in earlier shards as well: "
            f"{some}{' ...' * (len(found) > NAMED)}."
        )
        if self.source.data.on_bad_clip == "raise":
            raise UserError(
                f"data.on_bad_clip=raise: {what} Take them out, or name a column of ids in data.columns.id."
            )
        _LOG.warning("data.streaming: %s Both are trained on; without streaming the later one is left out.", what)

    def row(self, index: int, row: int) -> dict[str, Any]:
        """Return a clip's row."""
        found: dict[str, Any] = self._table(index)[row]
        return found

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tables": {}, "_seen": SeenIds()}

    def _try_to_open(self, index: int) -> None:
        try:
            self._open(index)
        except (UserError, Unreachable, OSError) as error:
            _LOG.debug("%s cannot be opened ahead: %s", self.shards[index].address, error)

    def _open_or_skip(self, index: int) -> Contents:
        shard = self.shards[index]
        reason = self.failed.get(shard.address, "")
        try:
            if not reason:
                found = self._open(index)
                _refuse_cut(found, shard, self.source.data.on_bad_clip)
                return found
        except (Unreachable, FileNotFoundError) as error:
            reason = str(error)
            if self.source.data.on_bad_clip == "raise":
                raise UserError(
                    f"data.on_bad_clip=raise: expected the shard {shard.address}, which cannot be had: {reason}. Put "
                    "it back, or set data.on_bad_clip=skip to go on without its clips."
                ) from error
            self.failed[shard.address] = reason
        drops = Drops()
        drops.add("missing_shard", shard.address, f"{reason}; the training goes on without its clips")
        return Contents([], drops)

    def _stem(self, index: int) -> Path:
        """Return the place of a shard in the cache, without a suffix: it changes with everything that decides it."""
        shard, data = self.shards[index], self.source.data
        state = shard.address if is_remote(shard.address) else file_key(shard.address)
        splits = (self.split, self.source.splits, self.source.held_out, self.source.side, self.prefix)
        decides = [VERSION, state, splits, [vars(data)[name] for name in DECIDES]]
        digest = hashlib.sha256(repr(decides).encode("utf-8", "surrogateescape")).hexdigest()[:20]
        return self.folder / f"{shard.name.split('.')[0][-40:]}-{digest}"

    def _listed(self, index: int) -> Path:
        stem = self._stem(index) if is_remote(self.shards[index].address) or self._there(index) else self.folder / "-"
        return stem.with_name(f"{stem.name}.json")

    def _there(self, index: int) -> bool:
        return os.path.isfile(self.shards[index].address)

    def _open(self, index: int, *, table: bool = False) -> Contents:
        """Return what a shard holds; fetch, filter and list it first when that is not done, or its table is wanted."""
        stem = self._stem(index)
        listed = stem.with_name(f"{stem.name}.json")
        if listed.is_file() and not table:
            return _read_contents(listed)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{stem}.lock"):
                before = _read_contents(listed) if listed.is_file() else None
                if before is None or not _is_whole(stem, before):
                    self._write(index, stem, before)
                    _make_room(self.folder, self.source.data.shard_cache_gb * 1e9, stem.name)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self._there(index):
                raise
            raise UserError(
                f"expected to write a shard's clips into {self.folder}, found that this fails: {error}. Set "
                "HF_ASR_CACHE to a folder that can be written and has space, or lower data.shard_cache_gb."
            ) from error
        return _read_contents(listed)

    def _write(self, index: int, stem: Path, before: Contents | None) -> None:
        shard, drops = self.shards[index], Drops()
        place, file = shard.address, ""
        if is_remote(shard.address):
            place = file = str(stem / shard.name.partition("?")[0])
            if not os.path.exists(place):
                fetch(shard.address, Path(place))
        table = stem.with_name(f"{stem.name}.arrow")
        write_table(table, self._rows(shard, place, drops))
        if file and not file.endswith(webdataset.SUFFIXES):  # a Parquet file's audio is in the table now
            shutil.rmtree(stem)
            file = ""
        blocks = list(open_table(table).select_columns(["duration", "id"]).iter(10_000))
        seconds = [value for block in blocks for value in block["duration"]]
        if before is not None and before.seconds != seconds:
            raise UserError(
                f"expected the {len(before.seconds)} clips that {shard.address} had, found that it has changed to "
                f"{len(seconds)} clips or other lengths since it was read. Train anew, with HF_ASR_CACHE set to "
                "another folder."
            )
        ids = packed(id for block in blocks for id in block["id"])
        contents = {"seconds": seconds, "drops": drops.to_dict(), "file": file, "ids": ids}
        write_whole(stem.with_name(f"{stem.name}.json"), json.dumps(contents))

    def _rows(self, shard: Shard, place: str, drops: Drops) -> Iterator[Utterance]:
        held_out, side = self.source.held_out, self.source.side
        found = (row for row in shard.read(place, drops) if side == held_out.side(row))
        for row in keep(found, self.source, self.split, drops, taken=set()):
            yield replace(row, id=f"{self.prefix}:{row.id}") if self.prefix else row

    def _table(self, index: int) -> datasets.Dataset:
        table, file, touched = self._tables.get(index, (None, "", 0.0))
        now = time.monotonic()
        if table is not None and now - touched < TOUCHED:
            return table
        stem = self._stem(index)
        path = stem.with_name(f"{stem.name}.arrow")
        while table is None or not path.exists() or (file and not os.path.exists(file)):
            file = self._open(index, table=True).file
            with suppress(FileNotFoundError):  # another process has just made room
                table = open_table(path)
        for used in (str(path), file):
            if used:
                os.utime(used)
        self._tables.pop(index, None)
        self._tables[index] = table, file, now
        while len(self._tables) > OPEN_TABLES:
            self._tables.pop(next(iter(self._tables)))
        return table


def _read_contents(path: Path) -> Contents:
    found = json.loads(path.read_text("utf-8"))
    return Contents(found["seconds"], Drops.from_dict(found["drops"]), found["file"], found["ids"])


def _is_whole(stem: Path, contents: Contents) -> bool:
    return stem.with_name(f"{stem.name}.arrow").is_file() and (not contents.file or os.path.isfile(contents.file))


def _refuse_cut(found: Contents, shard: Shard, on_bad_clip: str) -> None:
    """Stop at a broken shard, or clip of it, where the user asked for it; its list may be of a run that did not."""
    for reason in BROKEN if on_bad_clip == "raise" else ():
        for id, detail in found.drops.reasons.get(reason, []):
            raise UserError(
                f"data.on_bad_clip=raise: expected every clip to be usable, found {id} in {shard.address}: {reason}: "
                f"{detail}. Mend it, or set data.on_bad_clip=skip to leave such clips out and count them."
            )


def _make_room(folder: Path, most: float, kept: str) -> None:
    """Remove what was not read for longest until the rest takes at most ``most`` bytes; never the shard ``kept``."""
    found = []
    for path in [*folder.glob("*.arrow"), *folder.glob("*/*")]:
        try:
            status = path.stat()
        except FileNotFoundError:  # another process makes room as well
            continue
        found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for read, size, path in sorted(found):
        if total <= most or time.time() - read < RECENT:
            return
        if kept not in str(path):
            path.unlink(missing_ok=True)
            total -= size
