"""A split to shards: clips encoded by several processes, cut by size, resumed after an interruption.

One process writes; the others decode and encode. So neither the order nor the cut of the shards depends on how many
there are. A finished shard leaves a record in ``.progress``: what it holds and with which row the next one begins.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, encode, encoded_bytes, load
from hf_asr.data.sampling import epoch_order
from hf_asr.data.shard_files import FORMS, ShardFile, finish
from hf_asr.errors import UserError
from hf_asr.files import write_whole
from hf_asr.utterance import Drops, Seconds, Utterance

CODECS = ("flac", "flac24", "opus", "keep")
ORDERS = ("corpus", "sorted", "shuffled")
PROGRESS = ".progress"
ROWS_A_TASK = 16
# Tasks in flight for each process: enough to keep it busy, few enough to keep their audio out of memory.
TASKS_AHEAD = 4


@dataclass(frozen=True)
class ShardSettings:
    """How shards are made.

    Attributes:
        form: A key of :data:`hf_asr.data.shard_files.FORMS`.
        codec: ``flac`` (16 bits), ``flac24``, ``opus``, or ``keep``: the corpus's own bytes, segments as FLAC.
        shard_mb: Most megabytes (10**6 bytes) of audio in a shard; a clip that is larger has one for itself.
        order: ``corpus``; ``sorted`` by duration, shortest first; ``shuffled`` by the seed.
        seed: Of the shuffle.
    """

    form: str = "parquet"
    codec: str = "flac"
    shard_mb: float = 256
    order: str = "corpus"
    seed: int = 42


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard.

    Attributes:
        name: Its file, relative to the output folder.
        split: Its split.
        clips: How many it holds.
        seconds: Of audio.
        bytes: Size of the file.
        sha256: Of the file.
        next_row: Position in the split's order with which the next shard begins.
        dropped: (reason, id, detail) of what was left out on the way.
    """

    name: str
    split: str
    clips: int
    seconds: Seconds
    bytes: int
    sha256: str
    next_row: int
    dropped: list[tuple[str, str, str]]


def make_shards(
    rows: datasets.Dataset,
    split: str,
    folder: Path,
    settings: ShardSettings,
    *,
    processes: int = 1,
    on_bad_clip: str = "skip",
    advance: Callable[[int], None] = lambda clips: None,
) -> tuple[list[ShardRecord], Drops]:
    """Write a split's shards, or the rest of them; return all there are and what was left out.

    Args:
        rows: Rows of a corpus.
        split: Name of the split.
        folder: The output folder.
        settings: How.
        processes: How many encode.
        on_bad_clip: ``skip`` leaves broken clips out and counts them, ``raise`` stops at the first.
        advance: Told after each clip, and at the start of those that are done.

    Raises:
        UserError: A clip is broken and ``on_bad_clip`` is ``raise``, or none is left.
    """
    records = read_records(folder, split)
    done = records[-1].next_row if records else 0
    advance(done)
    order = row_order(rows, settings)
    extra = extra_columns(rows)
    encoded = encode_rows(rows, order[done:], settings.codec, processes)
    records += _write(encoded, done, split, folder, settings, extra, len(records), on_bad_clip, advance)
    drops = Drops()
    for record in records:
        for reason, id, detail in record.dropped:
            drops.add(reason, id, detail)
    if not any(record.clips for record in records):
        raise UserError(f"{split}: expected clips to put into shards, found none left: {'; '.join(drops.lines(3))}")
    return [record for record in records if record.clips], drops


def row_order(rows: datasets.Dataset, settings: ShardSettings) -> list[int]:
    """Return the rows' positions in the order of the shards."""
    if settings.order == "corpus":
        return list(range(len(rows)))
    if settings.order == "shuffled":
        shuffled: list[int] = epoch_order(len(rows), seed=settings.seed, epoch=0, shuffle=True).tolist()
        return shuffled
    seconds = np.array([duration or 0.0 for duration in rows["duration"]])
    by_length: list[int] = np.argsort(seconds, kind="stable").tolist()
    return by_length


def extra_columns(rows: datasets.Dataset) -> list[str]:
    """Return the names of all other columns that clips of the corpus have."""
    names: set[str] = set()
    for block in rows.select_columns("extra").iter(batch_size=10_000):
        for text in block["extra"]:
            names |= json.loads(text).keys()
    return sorted(names)


def read_records(folder: Path, split: str) -> list[ShardRecord]:
    """Return the finished shards of a split whose files are there with their size, up to the first that is not."""
    records = []
    for path in sorted((folder / PROGRESS).glob(f"{split}-*.json")):
        saved = json.loads(path.read_text(encoding="utf-8"))
        record = ShardRecord(**{**saved, "dropped": [(reason, id, detail) for reason, id, detail in saved["dropped"]]})
        file = folder / record.name
        if record.clips and not (file.is_file() and file.stat().st_size == record.bytes):
            break
        records.append(record)
    return records


def encode_rows(
    rows: datasets.Dataset, order: Sequence[int], codec: str, processes: int
) -> Iterator[tuple[dict[str, Any], bytes, str, str]]:
    """Yield (fields, audio, file ending, fault) of each row in the order given; of a broken one the fault alone."""
    tasks = [order[first : first + ROWS_A_TASK] for first in range(0, len(order), ROWS_A_TASK)]
    if processes <= 1:
        for task in tasks:
            yield from _encode_task(rows, task, codec)
        return
    with ProcessPoolExecutor(processes, initializer=_begin_worker, initargs=(rows, codec)) as pool:
        running: deque[Future[list[tuple[dict[str, Any], bytes, str, str]]]] = deque()
        for task in tasks:
            running.append(pool.submit(_work, task))
            if len(running) >= TASKS_AHEAD * processes:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()


# What a worker process works on; set once by its initializer, never in the main process.
_JOB: list[tuple[datasets.Dataset, str]] = []


def _begin_worker(rows: datasets.Dataset, codec: str) -> None:
    torch.set_num_threads(1)
    _JOB.append((rows, codec))


def _work(task: Sequence[int]) -> list[tuple[dict[str, Any], bytes, str, str]]:
    rows, codec = _JOB[0]
    return _encode_task(rows, task, codec)


def _encode_task(
    rows: datasets.Dataset, task: Sequence[int], codec: str
) -> list[tuple[dict[str, Any], bytes, str, str]]:
    return [_encode_clip(Utterance.from_row(rows[index]), codec) for index in task]


def _encode_clip(clip: Utterance, codec: str) -> tuple[dict[str, Any], bytes, str, str]:
    names = ("id", "text", "speaker", "language", "label", "duration")
    fields = {**clip.extra, **{name: value for name, value in asdict(clip).items() if name in names}}
    try:
        whole = clip.audio.start == 0 and clip.audio.end is None
        if codec == "keep" and whole:
            load(clip.audio)  # a clip that cannot be decoded is left out here, not in every training
            audio = encoded_bytes(clip.audio)
            suffix = suffix_of(audio)
        else:
            audio, suffix = encode_samples(load(clip.audio), "flac" if codec == "keep" else codec)
    except BrokenAudio as error:
        # The folder may be published: no path of this machine.
        return fields, b"", "", str(error).replace(clip.audio.path, os.path.basename(clip.audio.path))
    return fields, audio, suffix, ""


def suffix_of(audio: bytes) -> str:
    """Return the ending of files that begin like this."""
    beginnings = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff", b".snd": ".au", b"caff": ".caf"}
    return beginnings.get(audio[:4], ".mp3")


def encode_samples(samples: np.ndarray, codec: str) -> tuple[bytes, str]:
    """Encode samples (T,) at 16 kHz; return the bytes and the ending of such files.

    FLAC takes whole numbers: what a 16-bit (24-bit) recording at 16 kHz holds comes back bit for bit. Floats would not,
    since libsndfile reads by 1/32768 and writes by 32767. What lies beyond full scale is clipped.
    """
    if codec == "opus":
        return encode(samples, SAMPLE_RATE, "opus"), ".opus"
    bits = 24 if codec == "flac24" else 16
    full = 2 ** (bits - 1)
    whole = np.clip(np.rint(samples.astype(np.float64) * full), -full, full - 1)
    if bits == 16:
        return encode(whole.astype(np.int16), SAMPLE_RATE, "flac"), ".flac"
    return encode((whole * 256).astype(np.int32), SAMPLE_RATE, "flac24"), ".flac"  # the upper 24 of 32 bits


def _write(
    encoded: Iterator[tuple[dict[str, Any], bytes, str, str]],
    row: int,
    split: str,
    folder: Path,
    settings: ShardSettings,
    extra: Sequence[str],
    number: int,
    on_bad_clip: str,
    advance: Callable[[int], None],
) -> Iterator[ShardRecord]:
    """Cut what comes into shards; yield a record of each once it is on the disk."""
    shard = _Shard(split, number, folder, settings, extra)
    try:
        for fields, audio, suffix, fault in encoded:
            if fault and on_bad_clip == "raise":
                raise UserError(
                    f"data.on_bad_clip=raise: expected every clip to be usable, found {fields['id']}: {fault}. "
                    "Mend or remove the clip, or set data.on_bad_clip=skip."
                )
            if shard.clips and shard.audio_bytes + len(audio) > settings.shard_mb * 1e6:
                yield shard.finish(row)
                shard = _Shard(split, shard.number + 1, folder, settings, extra)
            shard.add(fields, audio, suffix, fault)
            row += 1
            advance(1)
        if shard.clips or shard.dropped:
            yield shard.finish(row)
    finally:
        shard.part.unlink(missing_ok=True)


class _Shard:
    """The shard that is being filled; its file is begun with its first clip."""

    def __init__(self, split: str, number: int, folder: Path, settings: ShardSettings, extra: Sequence[str]) -> None:
        self.writer, below, name = FORMS[settings.form]
        self.split, self.number, self.folder, self.extra = split, number, folder, extra
        self.name = os.path.join(below, name.format(split=split, number=number))
        self.part = folder / below / f".{os.path.basename(self.name)}.part"
        self.file: ShardFile | None = None
        self.clips, self.audio_bytes, self.seconds = 0, 0, 0.0
        self.dropped: list[tuple[str, str, str]] = []

    def add(self, fields: dict[str, Any], audio: bytes, suffix: str, fault: str) -> None:
        if fault:
            self.dropped.append(("broken_audio", fields["id"], fault))
            return
        if self.file is None:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.writer(self.part, self.extra)
        self.file.add(fields, audio, suffix)
        self.clips += 1
        self.audio_bytes += len(audio)
        self.seconds += fields["duration"] or 0.0

    def finish(self, next_row: int) -> ShardRecord:
        size, digest = 0, ""
        if self.file is not None:
            self.file.close()
            size, digest = finish(self.part, self.folder / self.name)
        record = ShardRecord(self.name, self.split, self.clips, self.seconds, size, digest, next_row, self.dropped)
        place = self.folder / PROGRESS / f"{self.split}-{self.number:06d}.json"
        write_whole(place, json.dumps(asdict(record), ensure_ascii=False) + "\n")
        return record
