"""Shards with a few short clips each: WebDataset tars, and Parquet as the Hub has it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import datasets
from helpers.tiny_corpus import WORDS, tone

from hf_asr.data.audio import SAMPLE_RATE, encode

Member = tuple[str, bytes]


def clip(index: int) -> tuple[str, str, bytes]:
    """Return id, text and encoded audio of a clip."""
    text = " ".join(WORDS[(index + k) % len(WORDS)] for k in range(1 + index % 5)) + f" {index}"
    return f"clip{index:04d}", text, encode(tone(index, 0.4 + 0.1 * (index % 9)), SAMPLE_RATE, "flac")


def members_of(index: int) -> list[Member]:
    """Return a clip's files in a WebDataset shard."""
    id, text, audio = clip(index)
    fields = json.dumps({"id": id, "text": text, "speaker": f"s{index % 3}"})
    return [(f"{id}.flac", audio), (f"{id}.json", fields.encode())]


def write_tar(path: Path, members: Sequence[Member | tarfile.TarInfo], mode: str = "w") -> Path:
    """Write a tar archive of (name, content), or of headers without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def make_tars(folder: Path, shards: int, clips: int) -> list[str]:
    """Write ``train-000.tar`` ...; return the ids of all clips."""
    for shard in range(shards):
        indices = range(shard * clips, (shard + 1) * clips)
        write_tar(folder / f"train-{shard:03d}.tar", [member for index in indices for member in members_of(index)])
    return [clip(index)[0] for index in range(shards * clips)]


def make_parquet(folder: Path, shards: int, clips: int, ids: bool = True) -> list[str]:
    """Write ``train-00000-of-...parquet``; return the ids of all clips."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        rows = [clip(index) for index in range(shard * clips, (shard + 1) * clips)]
        columns: dict[str, list[object]] = {"audio": [{"bytes": audio, "path": f"{id}.flac"} for id, _, audio in rows]}
        columns |= {"text": [text for _, text, _ in rows]}
        columns |= {"id": [id for id, _, _ in rows]} if ids else {}
        table = datasets.Dataset.from_dict(columns)
        table.to_parquet(folder / f"train-{shard:05d}-of-{shards:05d}.parquet")
    return [clip(index)[0] for index in range(shards * clips)]
