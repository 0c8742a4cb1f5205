"""The cached map step: every clip is decoded and transformed once, later runs read its features from disk.

A cache is one folder, ``<cache_dir>/<split>-<hash>/``: Arrow files with the true-length features, and
``manifest.json``, written last. The folder is filled under another name and renamed when it is whole, so that one
that was interrupted is never taken for whole. The hash covers the audio files, the texts and every setting that
changes what a row becomes.

Features are kept as bytes: reading one row takes 25 us, against 190 us as a list of float16 and 1,100 us as Array2D.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import datasets
import numpy as np
import pyarrow
import torch
from torch.utils.data import Dataset

from hf_asr.config.arguments import FeatureArguments
from hf_asr.data.corpora import Split
from hf_asr.data.sampling import Epoch, Rows
from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.fingerprint import rows_hash
from hf_asr.features.storage import disk_error, only_one, renamed_when_whole, sync
from hf_asr.features.streamed import StreamRows
from hf_asr.features.together import Together, encoding_together, gpu_for
from hf_asr.utterance import Drops, Seconds

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
COLUMNS = ("id", "text", "label", "speaker", "duration")
# 30-s clips with 128 mel bins in float32 take 1.5 MB each: 32 of them before a write keep a worker below 100 MB.
BATCH_ROWS = 32
# A second process costs 0.2 s to start, about what 100 clips cost.
ROWS_PER_PROCESS = 200

STORED = ("id", "text", "label", "speaker", "duration", "input_features", "labels", "error")
# Columns of frames; joint is there where clips are joined later (data.pack).
FRAMES = ("input_features", "joint")


def stored_features(labels: str, *, joint: bool = False) -> datasets.Features:
    """Return the columns of a cache; ``labels`` is the type of a label."""
    texts = {name: datasets.Value("string") for name in ("id", "text", "label", "speaker", "error")}
    return datasets.Features(
        texts
        | {"duration": datasets.Value("float64"), "labels": datasets.List(datasets.Value(labels))}
        | {name: datasets.Value("large_binary") for name in FRAMES[: 1 + joint]}
    )


class CachedRows(Dataset[dict[str, Any]]):
    """Encoded rows read from a cache, without those that could not be encoded."""

    def __init__(self, table: datasets.Dataset, feature_size: int, dtype: str) -> None:
        self.table = table
        self.feature_size = feature_size
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.table[index]
        stored = {name: row[name] for name in FRAMES if name in row}
        return row | {
            name: np.frombuffer(frames, dtype=self.dtype).reshape(-1, self.feature_size)
            for name, frames in stored.items()
        }


class LiveRows(Dataset[dict[str, Any]]):
    """Rows encoded when they are asked for; one that cannot be has its ``error`` set, or raises."""

    def __init__(self, table: datasets.Dataset, encoder: ClipEncoder, on_bad_clip: str) -> None:
        self.table = table
        self.encoder = encoder
        self.on_bad_clip = on_bad_clip

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return encode_row(self.table[index], self.encoder, self.on_bad_clip)


class Packing(Protocol):
    """Joins the clips of a split to windows, see :class:`hf_asr.features.packing.PackedTraining`."""

    def windows(self, split: PreparedSplit, *, shuffle: bool) -> Rows:
        """Return the windows of the split, which change with its epoch where they are shuffled."""


@dataclass(frozen=True)
class PreparedSplit:
    """A split that is ready to be batched.

    Attributes:
        name: Name of the split.
        rows: Encoded rows: CachedRows or LiveRows, by index; or StreamRows.
        table: The columns beside the features; None for a stream.
        drops: What could not be encoded, known when the split is cached.
        folder: The cache; None without one.
        reused: Whether an earlier run had written it.
        epoch: Must be told which epoch it is, where rows change with it.
        packing: How clips are joined while training; None where they are not.
        corpus: The corpus's rows, undecoded, clips that could not be encoded among them; None for a stream.
    """

    name: str
    rows: Any
    table: datasets.Dataset | None
    drops: Drops
    folder: Path | None = None
    reused: bool = False
    epoch: Epoch | None = None
    packing: Packing | None = None
    corpus: datasets.Dataset | None = None

    def column(self, name: str) -> list[Any]:
        """Return ``id``, ``text``, ``label``, ``speaker`` or ``duration`` of every row, in order."""
        assert name in COLUMNS, f"no column {name}, there are {', '.join(COLUMNS)}"
        assert self.table is not None, f"{self.name} is a stream, it has no columns"
        return list(self.table[name])


def prepare_features(
    split: Split,
    encoder: ClipEncoder,
    *,
    fingerprint: Mapping[str, Any],
    features: FeatureArguments,
    on_bad_clip: str,
) -> PreparedSplit:
    """Encode a split: from its cache when there is a whole one, else into it; on the fly when caching is off.

    Several processes may call it for one split at once: the first to come writes, the others wait and reuse.

    Args:
        split: Rows of a corpus; a stream is encoded as it is read, and never cached.
        encoder: The family's encoder.
        fingerprint: What else tells this cache from others, JSON-able: the model's name and revision.
        features: The ``features`` section.
        on_bad_clip: ``skip`` drops and counts what cannot be encoded, ``raise`` stops at the first.

    Raises:
        UserError: The cache cannot be written or does not fit on its disk, no clip is left, or a clip is bad and
            ``on_bad_clip`` is ``raise``.
    """
    if isinstance(split.rows, Stream):
        encode = partial(encode_row, encoder=encoder, on_bad_clip=on_bad_clip)
        return PreparedSplit(split.name, StreamRows(split.rows, encode), None, Drops())
    if not features.cache:
        live = LiveRows(split.rows, encoder, on_bad_clip)
        return PreparedSplit(split.name, live, split.rows, Drops(), corpus=split.rows)
    folder, settings = cache_folder(split, encoder, features, fingerprint)
    reused = is_whole(folder)
    if not reused:
        reused = write_once(folder, split, encoder, settings, features, on_bad_clip)
    return replace(_open(folder, split.name, encoder, on_bad_clip, reused), corpus=split.rows)


def cache_folder(
    split: Split, encoder: ClipEncoder, features: FeatureArguments, fingerprint: Mapping[str, Any] = {}
) -> tuple[Path, dict[str, Any]]:
    """Return where a split's cache is, or would be, and what its name was made from."""
    settings = {"encoder": encoder.fingerprint(), "given": dict(fingerprint), "rows": rows_hash(split.rows)}
    return cache_dir(features) / f"{_file_name(split.name)}-{_hash(settings)}", settings


def encode_row(row: Mapping[str, Any], encoder: ClipEncoder, on_bad_clip: str) -> dict[str, Any]:
    """Encode one row.

    Raises:
        UserError: It cannot be encoded and ``on_bad_clip`` is ``raise``.
    """
    return _accepted(encoder(row), on_bad_clip)


def _accepted(encoded: dict[str, Any], on_bad_clip: str) -> dict[str, Any]:
    if encoded["error"] and on_bad_clip == "raise":
        raise _bad_clip(encoded["id"], encoded["error"])
    return encoded


def cache_dir(features: FeatureArguments) -> Path:
    """Return where caches are: ``features.cache_dir``, else $HF_ASR_CACHE, else below the home's ``.cache``."""
    return Path(features.cache_dir or os.environ.get("HF_ASR_CACHE") or "~/.cache/hf_asr/features").expanduser()


def forecast_bytes(seconds: Seconds, rows: int, encoder: ClipEncoder) -> int:
    """Return what a cache of so much audio takes on disk; labels, texts and offsets are about 400 bytes a row."""
    return int(seconds * encoder.bytes_per_second) + 400 * rows


def is_whole(folder: Path) -> bool:
    """Tell whether a cache was finished: its manifest is there, and so is every file in it, with its size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
        return whole and bool(manifest["files"]) and {"drops", "feature_size"} <= manifest.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # also JSON of another form
        return False


def write_once(
    folder: Path,
    split: Split,
    encoder: ClipEncoder,
    settings: Mapping[str, Any],
    features: FeatureArguments,
    on_bad_clip: str,
) -> bool:
    """Write a cache, or a part of one, unless another process does so first; return whether one did.

    Raises:
        UserError: It cannot be written or does not fit on its disk, or a clip is bad and may not be.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder):
            if is_whole(folder):
                return True
            _check_disk(folder.parent, split, encoder)
            with renamed_when_whole(folder) as unfinished:
                _write(unfinished, split, encoder, settings, features, on_bad_clip)
    except OSError as error:
        raise disk_error(error, folder.parent, _needed_bytes(split, encoder)) from error
    return False


def _write(
    folder: Path,
    split: Split,
    encoder: ClipEncoder,
    settings: Mapping[str, Any],
    features: FeatureArguments,
    on_bad_clip: str,
) -> None:
    gpu, workers = gpu_for(encoder, features.device), num_processes(features, len(split.rows))
    ways = f"{workers} processes" if gpu is None else f"{workers} threads and {gpu}"
    logger.info("features of %s: encoding %d clips with %s", split.name, len(split.rows), ways)
    with nullcontext() if gpu is None else encoding_together(encoder, gpu, workers) as together:
        table = split.rows.map(
            _encode_batch,
            batched=True,
            batch_size=BATCH_ROWS,
            writer_batch_size=BATCH_ROWS,
            num_proc=workers if workers > 1 and gpu is None else None,
            fn_kwargs={
                "encoder": encoder,
                "on_bad_clip": on_bad_clip,
                "main_process": os.getpid(),
                "together": together,
            },
            remove_columns=split.rows.column_names,
            features=stored_features(encoder.labeller.dtype, joint=encoder.joining is not None),
            cache_file_name=str(folder / "features.arrow"),
            load_from_cache_file=False,
            new_fingerprint=uuid.uuid4().hex,
            desc=f"features of {split.name}",
        )
    _write_manifest(folder, table, encoder, settings)


def _encode_batch(
    batch: Mapping[str, list[Any]],
    encoder: ClipEncoder,
    on_bad_clip: str,
    main_process: int,
    together: Together | None = None,
) -> dict[str, list[Any]]:
    if os.getpid() != main_process:
        torch.set_num_threads(1)  # a worker has one core: more threads than cores were 10 to 20 times slower
        if os.getppid() != main_process:
            raise SystemExit("the process that wanted these features is gone")
    rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    found = [encoder(row) for row in rows] if together is None else together(rows)
    encoded = [_accepted(one, on_bad_clip) for one in found]
    names = STORED if encoder.joining is None else (*STORED, FRAMES[1])
    columns = {name: [row[name] for row in encoded] for name in names}
    return columns | {name: [frames.tobytes() for frames in columns[name]] for name in FRAMES if name in names}


def _write_manifest(folder: Path, table: datasets.Dataset, encoder: ClipEncoder, settings: Mapping[str, Any]) -> None:
    """Write what is in a cache, after everything else is on disk."""
    drops = Drops()
    for id, error in zip(table["id"], table["error"], strict=True):
        if error:
            reason, _, detail = error.partition(": ")
            drops.add(reason, id, detail)
    files = {file.name: file.stat().st_size for file in sorted(folder.glob("*.arrow"))}
    manifest = {
        "settings": settings,
        "files": files,
        "clips": len(table) - drops.total(),
        "seconds": float(sum(table["duration"])),
        "feature_size": encoder.front_end.feature_size,
        "drops": drops.to_dict(),
    }
    for name in files:
        sync(folder / name)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), "utf-8")
    sync(folder / MANIFEST)


def _open(folder: Path, name: str, encoder: ClipEncoder, on_bad_clip: str, reused: bool) -> PreparedSplit:
    """Read a whole cache."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    drops = Drops.from_dict(manifest["drops"])
    try:
        parts = [datasets.Dataset.from_file(str(folder / file)) for file in manifest["files"]]
    except pyarrow.ArrowException as error:
        raise UserError(
            f"features of {name}: expected a whole cache in {folder}, found it damaged: {error}. Delete the folder."
        ) from error
    table = datasets.concatenate_datasets(parts)
    if drops.total():
        for line in drops.lines():
            logger.info("%s: %s", name, line)
        if on_bad_clip == "raise":
            reason, items = next(iter(drops.reasons.items()))
            raise _bad_clip(items[0][0], f"{reason}: {items[0][1]}")
        table = table.select([index for index, error in enumerate(table["error"]) if not error])
    if not len(table):
        found = "; ".join(drops.lines(3)) or "no clip at all"
        raise UserError(f"{name}: expected clips to train or score on, found none left: {found}. Check data.path.")
    logger.info("features of %s: %d clips %s %s", name, len(table), "reused from" if reused else "in", folder)
    rows = CachedRows(table, manifest["feature_size"], encoder.store_dtype)
    return PreparedSplit(name, rows, table, drops, folder, reused)


def num_processes(features: FeatureArguments, rows: int, sharers: int = 1) -> int:
    """Return how many processes encode: as many as cores we may use, fewer for little work.

    Args:
        features: The ``features`` section.
        rows: Clips to encode.
        sharers: How many encode at once on this machine, each its own part.
    """
    if features.num_proc == "auto":
        return max(1, min(len(os.sched_getaffinity(0)) // sharers, rows // ROWS_PER_PROCESS))
    return max(1, min(int(features.num_proc), rows))


def _check_disk(folder: Path, split: Split, encoder: ClipEncoder) -> None:
    needed = _needed_bytes(split, encoder)
    free = shutil.disk_usage(folder).free
    logger.info("features of %s: %.1f MB needed, %.1f MB free in %s", split.name, needed / 1e6, free / 1e6, folder)
    if needed > free:
        raise UserError(
            f"features of {split.name}: expected {needed / 1e6:,.1f} MB free in {folder}, found {free / 1e6:,.1f} MB. "
            "Set features.cache_dir to another disk, or features.cache=false to encode on the fly."
        )


def _needed_bytes(split: Split, encoder: ClipEncoder) -> int:
    durations = [duration for duration in split.rows["duration"] if duration is not None]
    return forecast_bytes(sum(durations), len(split.rows), encoder)


def _bad_clip(id: str, error: str) -> UserError:
    return UserError(
        f"data.on_bad_clip=raise: expected every clip to be usable, found {id}: {error}. "
        "Mend or remove the clip, or set data.on_bad_clip=skip to leave such clips out and count them."
    )


def _hash(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:20]


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[-60:]
