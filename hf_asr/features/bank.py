"""The bank: states of a frozen encoder, computed once, kept on disk and read in every epoch.

A bank is one folder, ``<cache_dir>/bank-<split>-<hash>/``: shards of float16 numbers with their indices and records
(:mod:`hf_asr.features.bank_shards`), and ``manifest.json``, written last: without it there is no bank. A clip's states
are (K, S, D): K layers, its own S states without padding, D numbers each. Shards are memory-mapped: all workers and
processes of a machine share one copy in its memory.

The states of a clip that another bank of the same encoder holds already, such as another fold's, are copied from there.

The hash covers what the states are a function of: the encoder's weights and settings, the layers kept, the arithmetic,
and the rows with everything that decides their features.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from datasets.utils import tqdm

from hf_asr.config.arguments import FeatureArguments
from hf_asr.errors import UserError
from hf_asr.features import bank_shards
from hf_asr.features.bank_room import GB, BankShape, check_room, seconds_of
from hf_asr.features.bank_rows import BankedRows, KnownStates, read_index, read_manifest
from hf_asr.features.bank_shards import (
    Encode,
    PartLocks,
    ShardWriter,
    part_locks,
    read_record,
    remove_if_empty,
)
from hf_asr.features.cache import MANIFEST, LiveRows, PreparedSplit, cache_dir, is_whole
from hf_asr.features.fingerprint import rows_hash
from hf_asr.files import write_whole
from hf_asr.utterance import Drops

logger = logging.getLogger(__name__)

# What an interruption loses at most, and what is written again when a shard is damaged.
SHARD_BYTES = 2**28
# Part of every bank's hash: raise it when files are laid out in another way.
FORMAT = 2


@dataclass(frozen=True)
class BankPlace:
    """Which bank a split belongs to.

    Attributes:
        name: The split's.
        folder: Where it is, or will be.
        what: Everything that decides its states, JSON-able.
        shape: What it holds.
    """

    name: str
    folder: Path
    what: Mapping[str, Any]
    shape: BankShape

    @classmethod
    def of(
        cls, name: str, identity: str, shape: BankShape, settings: Mapping[str, Any], features: FeatureArguments
    ) -> BankPlace:
        """Find the place of a split.

        Args:
            name: The split's.
            identity: Hash of its rows and what decides their features, see :func:`identity_of`.
            shape: What a bank of it holds.
            settings: What else decides the states, JSON-able: weights, arithmetic, window.
            features: The ``features`` section.
        """
        what = {"rows": identity, "layers": shape.layers, "width": shape.width, "format": FORMAT, **settings}
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]
        return cls(name, cache_dir(features) / f"bank-{_file_name(name)}-{digest}", what, shape)

    def bytes_written(self) -> int:
        """Return what is on disk already of a bank that was interrupted, or is whole."""
        return sum(file.stat().st_size for file in self.folder.glob("states-*.bin"))


def bank_split(
    prepared: PreparedSplit,
    encode: Encode,
    *,
    shape: BankShape,
    settings: Mapping[str, Any],
    features: FeatureArguments,
    batch_size: int,
    part: tuple[int, int] = (0, 1),
    identity: str | None = None,
) -> PreparedSplit:
    """Return the split with its encoder's states in place of its features: from its bank, else written into it.

    Several processes may call it for one split at once: each writes the shards that no other is writing.

    Args:
        prepared: The split; not a stream.
        encode: Runs the encoder.
        shape: What a bank of it holds.
        settings: What else decides the states, JSON-able: weights, arithmetic.
        features: The ``features`` section.
        batch_size: Clips encoded together.
        part: This process and how many there are: which shards it checks.
        identity: Of the split's rows, where :func:`identity_of` is not to say it.

    Raises:
        UserError: The bank cannot be written, does not fit, is another one's, or a state is no finite number.
    """
    place = BankPlace.of(prepared.name, identity or identity_of(prepared), shape, settings, features)
    found = whole_bank(place, part)
    if found is None:
        check_room([prepared], shape, features, place.bytes_written())
        _tell_others(place)
        try:
            place.folder.mkdir(parents=True, exist_ok=True)
            _fill(place, prepared, encode, batch_size, quiet=part[0] > 0)
        except UserError:
            shutil.rmtree(place.folder, ignore_errors=True)
            raise
        except OSError as error:
            whole = len(bank_shards.records(place.folder))
            if not whole:
                shutil.rmtree(place.folder, ignore_errors=True)
            raise UserError(
                f"features.bank: expected room to write in {place.folder.parent}, found: {error.strerror}; what was "
                f"begun is removed, {whole:,} whole shards are kept: make room and start again, it goes on from "
                "them. Or set features.cache_dir to another place, or features.bank=off."
            ) from error
        found = _open(place, reused=False)
    return replace(found, epoch=prepared.epoch)


def identity_of(prepared: PreparedSplit) -> str:
    """Return a hash of a split's rows and of everything that decides their features."""
    if prepared.folder is not None:
        return prepared.folder.name
    assert isinstance(prepared.rows, LiveRows), "a bank is made of cached or live rows"
    settings = {"encoder": prepared.rows.encoder.fingerprint(), "rows": rows_hash(prepared.rows.table)}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def whole_bank(place: BankPlace, part: tuple[int, int] = (0, 1)) -> PreparedSplit | None:
    """Open a bank without looking at the split's features; None where there is none that is whole.

    All processes of a run call it at once and are told the same: what one of them finds damaged, none goes on with.

    Args:
        place: Where it should be.
        part: This process and how many there are: it checks every so many-th shard. One that is damaged is removed
            from the bank, to be written again.

    Raises:
        UserError: What is there is another bank.
    """
    whole = is_whole(place.folder) and _is_right(place, part)
    if part[1] > 1:
        whole = all(gather_object([whole]))
    return _open(place, reused=True) if whole else None


def _is_right(place: BankPlace, part: tuple[int, int]) -> bool:
    """Tell whether this process's share of the shards is what was written."""
    try:
        _check_same(place)
        numbers = range(read_manifest(place.folder)["shards"])[part[0] :: part[1]]
        with part_locks(place.folder) as locks:
            return _forget_damaged(place, dict.fromkeys(numbers), locks)
    except FileNotFoundError:  # another run has found damage
        return False


def _check_same(place: BankPlace) -> None:
    found = read_manifest(place.folder)["settings"]
    wrong = [name for name, value in place.what.items() if found.get(name) != value]
    if wrong:
        raise UserError(
            f"features.bank: expected a bank of this model and these clips in {place.folder}, found one with another "
            f"{', '.join(wrong)}. Delete or move that folder."
        )


def _forget_damaged(place: BankPlace, shards: Mapping[int, range | None], locks: PartLocks) -> bool:
    """Hash shards, remove the records of those that are damaged, and tell whether there were none.

    Args:
        place: Whose.
        shards: Numbers; with their rows where a shard without a record is one that was not written yet.
        locks: The folder's.
    """
    folder, right = place.folder, True
    for number, rows in shards.items():
        record = bank_shards.record_path(folder, number)
        if rows is not None and not record.exists():
            continue
        locks.take(number, wait=True)
        name = bank_shards.damaged_file(folder, number)
        if name:
            there = (folder / name).is_file()
            why = "its xxHash is not the one written" if there and name != record.name else "it cannot be read"
            message = "bank of %s: %s in %s is damaged (%s): it is built again, alone"
            logger.warning(message, place.name, name, folder, why)
            (folder / MANIFEST).unlink(missing_ok=True)
            record.unlink(missing_ok=True)
            right = False
        locks.free(number)
    return right


def _tell_others(place: BankPlace) -> None:
    """Say that banks of this split for another encoder, window or arithmetic are there and not read."""
    named = re.compile(rf"bank-{re.escape(_file_name(place.name))}-[0-9a-f]{{20}}")
    others = [path.name for path in sorted(place.folder.parent.glob("bank-*")) if named.fullmatch(path.name)]
    others = [name for name in others if name != place.folder.name and is_whole(place.folder.parent / name)]
    if others:
        logger.info(
            "bank of %s: %s in %s is of another model, window, arithmetic or of other clips: not read",
            *(place.name, ", ".join(others), place.folder.parent),
        )


def _fill(place: BankPlace, prepared: PreparedSplit, encode: Encode, batch_size: int, *, quiet: bool) -> None:
    """Write the shards that are missing, beside other processes, and wait until all of them are there."""
    folder, shards = place.folder, _cut(prepared, place.shape)
    states = partial(KnownStates(folder, place.what, place.shape).states, encode=encode)
    with part_locks(folder) as locks:
        _forget_damaged(place, dict(enumerate(shards)), locks)
    there = [rows for number, rows in enumerate(shards) if bank_shards.is_written(folder, number, rows)]
    if there:
        logger.info("bank of %s: %d of %d shards are there, going on", prepared.name, len(there), len(shards))
    bar = tqdm(total=len(prepared.rows), initial=sum(map(len, there)), desc=f"states of {prepared.name}", disable=quiet)
    try:
        with part_locks(folder) as locks, bar:
            while not is_whole(folder):
                number = _take_part(folder, shards, locks)
                if number == len(shards):
                    _write_manifest(place, prepared, shards)
                elif not bank_shards.is_written(folder, number, shards[number]):
                    with ShardWriter(folder, number) as writer:
                        _write_shard(writer, prepared, shards[number], states, batch_size, bar)
                    assert bank_shards.is_written(folder, number, shards[number]), "a shard vanished"
                locks.free(number)
    finally:
        remove_if_empty(folder)


def _take_part(folder: Path, shards: Sequence[range], locks: PartLocks) -> int:
    """Take a shard that is missing, the manifest (the part after the last) when none is; wait where all are taken."""
    missing = [number for number, rows in enumerate(shards) if not bank_shards.is_written(folder, number, rows)]
    wanted = missing or [len(shards)]
    for number in wanted:
        if locks.take(number):
            return number
    locks.take(wanted[0], wait=True)
    return wanted[0]


def _cut(prepared: PreparedSplit, shape: BankShape) -> list[range]:
    """Return the rows of each shard, which takes about ``SHARD_BYTES``."""
    count = len(prepared.rows)
    rows = max(1, SHARD_BYTES * count // max(shape.state_bytes(seconds_of(prepared), count), 1))
    return [range(first, min(first + rows, count)) for first in range(0, count, rows)]


def _write_shard(
    writer: ShardWriter,
    prepared: PreparedSplit,
    rows: range,
    states: Encode,
    batch_size: int,
    bar: Any,
) -> None:
    drops = Drops()
    for batch, looked_at in _batches(prepared.rows, rows, batch_size, drops):
        if batch:
            writer.add(batch, states(batch))
        bar.update(looked_at)
    writer.finish(rows, drops)


def _batches(table: Any, rows: range, batch_size: int, drops: Drops) -> Iterator[tuple[list[Mapping[str, Any]], int]]:
    """Yield batches of the rows that can be used, and how many rows were looked at for each."""
    for first in range(rows.start, rows.stop, batch_size):
        places = range(first, min(first + batch_size, rows.stop))
        batch = []
        for row in (table[place] for place in places):
            if row["error"]:
                reason, _, detail = row["error"].partition(": ")
                drops.add(reason, row["id"], detail)
            else:
                batch.append(row)
        yield batch, len(places)


def _write_manifest(place: BankPlace, prepared: PreparedSplit, shards: Sequence[range]) -> None:
    """Write what is in a bank, after everything else is on disk.

    Raises:
        UserError: No clip of the split could be encoded.
    """
    records = [read_record(place.folder, number) for number in range(len(shards))]
    drops = Drops()
    for part in (prepared.drops, *(Drops.from_dict(record["drops"]) for record in records)):
        drops.merge(part)
    clips = sum(record["clips"] for record in records)
    if not clips:
        found = "; ".join(drops.lines(3)) or "no clip at all"
        raise UserError(f"{prepared.name}: expected clips to encode, found none left: {found}. Check data.path.")
    manifest = {
        "settings": dict(place.what),
        "files": {name: size for record in records for name, size in record["files"].items()},
        "clips": clips,
        "shards": len(shards),
        "layers": place.shape.layers,
        "feature_size": place.shape.width,
        "drops": drops.to_dict(),
    }
    write_whole(place.folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))


def _open(place: BankPlace, *, reused: bool) -> PreparedSplit:
    manifest, table = read_manifest(place.folder), read_index(place.folder)
    size, way = sum(manifest["files"].values()) / GB, "reused from" if reused else "in"
    logger.info("bank of %s: %d clips, %.3f GB, %s %s", place.name, len(table), size, way, place.folder)
    rows: Any = BankedRows(place.folder, table, place.shape.layers, place.shape.width)
    drops = Drops.from_dict(manifest["drops"])
    return PreparedSplit(place.name, rows, table, drops, place.folder, reused)


def bytes_of_banks(name: str, features: FeatureArguments) -> int:
    """Return the bytes of states in all banks of a split, whatever encoder they are of: at least those of its own."""
    found = cache_dir(features).glob(f"bank-{_file_name(name)}-*/states-*.bin")
    return sum(file.stat().st_size for file in found)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[-60:]
