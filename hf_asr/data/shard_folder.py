"""The folder that shards stand in: settings that a second call must share, checksums, and how to train from it."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from hf_asr.config.arguments import DataArguments
from hf_asr.data.shard_files import FORMS
from hf_asr.data.shard_making import PROGRESS, ShardRecord, ShardSettings, read_records
from hf_asr.errors import UserError
from hf_asr.files import write_whole
from hf_asr.utterance import Drops

MANIFEST = "shards.json"
CHECKSUMS = "SHA256SUMS"
SETTINGS = "settings.json"
SHARD_FIELDS = ("name", "clips", "seconds", "bytes", "sha256")


def begin_folder(folder: Path, settings: ShardSettings, rows: Mapping[str, str]) -> None:
    """Make the folder, or see that what it holds was begun with the same settings and clips.

    Args:
        folder: The output folder.
        settings: How shards are made.
        rows: Split to a hash of its rows.

    Raises:
        UserError: It holds something else, or was begun otherwise.
    """
    place, wanted = folder / PROGRESS / SETTINGS, {**asdict(settings), "rows": dict(rows)}
    if place.is_file():
        before = json.loads(place.read_text(encoding="utf-8"))
        changed = [name for name in wanted if before.get(name) != wanted[name]]
        if changed:
            raise UserError(
                f"--output-dir: expected shards that were begun with the same settings, found {folder} with other "
                f"{', '.join(changed)}. Take another folder, or delete this one."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"--output-dir: expected a new folder, or one that this command has begun, found files in {folder}. Take "
            "another folder."
        )
    write_whole(place, json.dumps(wanted, indent=1) + "\n")


def check_room(folder: Path, seconds: float, codec: str) -> None:
    """See that the disk has room for so many seconds of audio.

    Raises:
        UserError: It has not.
    """
    needed = bytes_of(seconds, codec)
    parent = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise UserError(
            f"--output-dir: expected about {needed / 1e9:,.1f} GB free for {seconds / 3600:,.1f} h as {codec}, found "
            f"{free / 1e9:,.1f} GB in {parent}. Take another disk, or --codec opus."
        )


def bytes_of(seconds: float, codec: str) -> float:
    """Return what so much speech takes at most: 16-bit FLAC about 18 kB a second, Opus 6; 0 where nobody knows."""
    return seconds * {"flac": 18e3, "flac24": 40e3, "opus": 6e3, "keep": 0}[codec]


def seconds_left(folder: Path, seconds: Mapping[str, float]) -> float:
    """Return the audio that is not in finished shards yet, of the seconds of each split."""
    done = {name: sum(record.seconds for record in read_records(folder, name)) for name in seconds}
    return sum(max(0.0, seconds[name] - done[name]) for name in seconds)


@contextmanager
def room_told(folder: Path, seconds: Mapping[str, float], codec: str) -> Iterator[None]:
    """Turn a disk that is full into one message: where, what is still needed, and that finished shards are kept.

    Args:
        folder: The output folder.
        seconds: Audio of each split.
        codec: How it is encoded.

    Raises:
        UserError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        left = seconds_left(folder, seconds)
        needed = bytes_of(left, codec)
        size = f"about {needed / 1e6:,.1f} MB" if needed else "room"
        what = f"the {left / 3600:,.2f} h that are left" if left else "the list of shards"
        whole = sum(len(read_records(folder, name)) for name in seconds)
        raise UserError(
            f"--output-dir: expected {size} for {what}, found the disk of {folder} "
            f"full. What was begun is removed, {whole:,} whole shards are kept: make room, then give the same command "
            "again, which goes on there."
        ) from error


def end_folder(
    folder: Path, settings: ShardSettings, data: DataArguments, made: Mapping[str, tuple[Sequence[ShardRecord], Drops]]
) -> None:
    """Write ``shards.json``, ``SHA256SUMS`` and ``README.md``, once every split is whole."""
    splits = {name: _summary(records, drops) for name, (records, drops) in made.items()}
    manifest = {"settings": asdict(settings), "language": data.language, "splits": splits}
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    lines = [f"{record.sha256}  {record.name}\n" for records, _ in made.values() for record in records]
    write_whole(folder / CHECKSUMS, "".join(lines))
    write_whole(folder / "README.md", readme(folder, settings, data, splits))


def _summary(records: Sequence[ShardRecord], drops: Drops) -> dict[str, Any]:
    kept = [{name: value for name, value in asdict(record).items() if name in SHARD_FIELDS} for record in records]
    return {
        "clips": sum(record.clips for record in records),
        "seconds": sum(record.seconds for record in records),
        "bytes": sum(record.bytes for record in records),
        "left_out": drops.to_dict(),
        "shards": kept,
    }


def training_section(folder: str, settings: ShardSettings, data: DataArguments) -> dict[str, Any]:
    """Return the data section of a run that trains from the shards as the corpus would have been trained from."""
    section: dict[str, Any] = {"corpus": "hub" if settings.form == "parquet" else "webdataset", "path": folder}
    if data.language:
        section["language"] = data.language
    if "label" in data.columns:
        section["columns"] = {"label": "label"}
    given = {"text_pipeline": data.text_pipeline, "min_seconds": data.min_seconds, "max_seconds": data.max_seconds}
    # Votes and splits were looked at when the shards were made.
    return section | given | {"filter_votes": False}


def readme(folder: Path, settings: ShardSettings, data: DataArguments, splits: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what the folder says about itself: the Hub's metadata, what there is, and how to train from it."""
    _, below, name = FORMS[settings.form]
    ending, place = Path(name).suffix, f"{below}/" if below else ""
    files = [{"split": split, "path": f"{place}{split}-*{ending}"} for split in splits]
    metadata = {"configs": [{"config_name": "default", "data_files": files}]}
    rows = "\n".join(
        f"| {name} | {split['clips']:,} | {split['seconds'] / 3600:.2f} | {len(split['shards']):,} | "
        f"{split['bytes'] / 1e6:,.1f} | {sum(map(len, split['left_out'].values())):,} |"
        for name, split in splits.items()
    )
    section = yaml.safe_dump({"data": training_section(folder.name, settings, data)}, sort_keys=False)
    return README.format(
        metadata=yaml.safe_dump(metadata, sort_keys=False).strip(),
        title=folder.resolve().name,
        rows=rows,
        codec=settings.codec,
        order=settings.order,
        section=section.strip(),
        form=settings.form,
    )


README = """---
{metadata}
---

# {title}

Clips with their transcripts in shards ({form}, {codec}, order: {order}), made by `hf-asr prepare-shards`. `shards.json`
names every shard with its clips, seconds, bytes and SHA-256, and every clip that was left out;
`sha256sum -c SHA256SUMS` says whether all is whole.

| split | clips | hours | shards | MB | left out |
|---|---|---|---|---|---|
{rows}

To train from it, in the YAML of a run (`streaming: true` beside it reads the shards one after the other):

```yaml
{section}
```
"""
