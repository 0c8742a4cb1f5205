"""WebDataset-style shards: tar archives in which the files of a clip follow each other and share a name.

::

    train-000000.tar            data.path: a folder, a pattern with {000000..000099} or *, or such an address
        0001.flac               any audio that hf_asr.data.audio reads
        0001.json               optional: text, speaker, duration, id ... under the names of data.columns
        0001.txt                the transcript, where the JSON has none

A name ends at the first dot behind its last slash, as webdataset has it. A clip's id is its JSON's, else that name.
Clips are read where they lie, by their offset; nothing of an archive is ever unpacked, so a member that leads out of
it (``..``, an absolute name, a link) cannot do harm: it is refused and named all the same.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import DataArguments
from hf_asr.data.archives import DamagedArchive, plain_tar
from hf_asr.data.columns import SPLIT_NAMES, Columns, leaves_folder, unique_ids
from hf_asr.data.listing import needed_roles
from hf_asr.data.remote import is_remote
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf")
TEXTS = {".txt": "text", ".text": "text", ".lab": "text", ".cls": "label"}
SUFFIXES = (".tar", ".tar.gz", ".tgz")
# A text beside a clip that is longer is no transcript.
MOST_TEXT = 2**20
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def shards_of(data: DataArguments, split: str) -> list[str]:
    """Return the shards of a split, sorted by name.

    Args:
        data: The ``data`` section.
        split: A pattern (``train-{000..099}.tar``, relative to data.path when that is a folder), or a split's name: the
            shards in a subfolder of that name, or whose names begin with it; ``train`` is all of them where none does.

    Raises:
        UserError: There is none.
    """
    root = data.path or ""
    if split.endswith(SUFFIXES):
        beside = not root or is_remote(split) or os.path.isabs(split) or root.endswith(SUFFIXES)
        return _expanded(split if beside else f"{root.rstrip('/')}/{split}")
    if not root:
        raise UserError("data.corpus webdataset needs data.path: a folder of .tar shards, a pattern, or an address")
    if root.endswith(SUFFIXES):
        return _expanded(root)
    if not os.path.isdir(root):
        raise UserError(
            f"data.path: expected a folder of .tar shards, or a pattern such as {root}/train-{{000..099}}.tar, found "
            f"{root}. Name the shards."
        )
    return _in_folder(Path(root), split)


def read(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the clips of a split's shards that lie on this machine; no audio is opened.

    Args:
        data: The ``data`` section.
        split: As for :func:`shards_of`.
        drops: Takes ``outside_archive`` (a member that leads out of it), ``truncated_shard``, ``bad_row`` (a JSON that
            is none), ``missing_text``, ``missing_audio``, ``duplicate_id``.

    Raises:
        UserError: There is no shard, or it lies on another machine.
    """
    shards = shards_of(data, split)
    far = [shard for shard in shards if is_remote(shard)]
    if far:
        raise UserError(
            f"data.path: expected shards on this machine, which is what validation, test and a run without "
            f"data.streaming read, found {far[0]}. Fetch them, or set data.streaming=true for train."
        )
    yield from unique_ids((row for shard in shards for row in read_shard(shard, data, drops)), drops)


def read_shard(path: str, data: DataArguments, drops: Drops) -> Iterator[Utterance]:
    """Yield the clips of one shard; a cut one gives what stands before the cut, a cut .tar.gz or one of no bytes none.

    Its columns are the fields of all its clips: the first may lack a speaker, or have a JSON that cannot be read.
    """
    name = os.path.basename(path)
    try:
        tar = plain_tar(path)
    except DamagedArchive as error:
        drops.add("truncated_shard", name, str(error))
        return
    samples = list(_samples(tar, name, drops))
    if not samples:
        return
    fields = list(dict.fromkeys(field for _, row, _ in samples for field in row))
    columns = Columns.choose(fields, {**data.columns, "audio": "audio"}, name, needed_roles(data))
    for key, row, audio in samples:
        if audio is None:
            drops.add("missing_audio", key, f"no audio beside it in {name}")
        else:
            yield columns.utterance(row, audio, key, "webdataset", data.language or "")


def _samples(tar: Path, name: str, drops: Drops) -> Iterator[tuple[str, dict[str, Any], AudioRef | None]]:
    """Yield (name, fields, where its audio is) of each clip; a name that comes again begins another clip."""
    key, row, audio, suffixes = "", dict[str, Any](), None, set[str]()
    for member, content in _members(tar, name, drops):
        stem, suffix = _split_name(member.name)
        if stem != key or suffix in suffixes:
            if key:
                yield key, {"audio": "", **row}, audio
            key, row, audio, suffixes = stem, {}, None, set()
        suffixes.add(suffix)
        if suffix in AUDIO:
            audio = AudioRef(path=str(tar), offset=member.offset_data, size=member.size)
        elif suffix == ".json":
            row |= _fields(content, key, drops)
        elif suffix in TEXTS:
            row[TEXTS[suffix]] = content.decode("utf-8-sig", "replace").strip()
    if key:
        yield key, {"audio": "", **row}, audio


def _members(tar: Path, name: str, drops: Drops) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield the files of an archive, small ones that are no audio with their content."""
    size, end = tar.stat().st_size, 0
    try:
        with tarfile.open(tar, "r:") as archive:
            while member := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE * member.isreg()
                if member.isdir():
                    continue
                if not member.isreg() or leaves_folder(member.name):
                    drops.add("outside_archive", member.name, f"refused: it leads out of {name}, or is a link")
                elif member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"it ends inside {member.name}")
                else:
                    wanted = _split_name(member.name)[1] not in AUDIO and member.size <= MOST_TEXT
                    found = archive.extractfile(member) if wanted else None
                    yield member, found.read() if found else b""
        if not _has_end(tar, end):  # tarfile says nothing of a header that is cut
            raise tarfile.ReadError("its end is missing")
    except (tarfile.TarError, EOFError) as error:
        drops.add("truncated_shard", name, f"cut or damaged ({error}); the clips before are used. Fetch it again")


def _has_end(tar: Path, end: int) -> bool:
    """Tell whether an archive ends as one does, with a block of zeros behind its last member."""
    with open(tar, "rb") as file:
        file.seek(end)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _split_name(name: str) -> tuple[str, str]:
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    return f"{folder}{slash}{stem}", f"{dot}{suffix}".lower()


def _fields(content: bytes, key: str, drops: Drops) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:  # also brackets without an end
        drops.add("bad_row", key, f"its JSON cannot be read: {error}")
        return {}
    if not isinstance(found, dict):
        drops.add("bad_row", key, f"its JSON: expected an object, found {type(found).__name__}")
        return {}
    return found


def _expanded(pattern: str) -> list[str]:
    """Return the paths that a pattern of braces and stars stands for."""
    found = [pattern]
    while found and (braces := _BRACES.search(found[0])):
        first, last = braces.groups()
        numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        found = [path.replace(braces[0], number, 1) for path in found for number in numbers]
    if not is_remote(pattern):
        found = [path for item in found for path in (sorted(glob(item)) if "*" in item else [item])]
    if not found:
        raise UserError(f"data.path: expected shards at {pattern}, found none. Check the pattern.")
    return found


def _in_folder(root: Path, split: str) -> list[str]:
    names = (split, *SPLIT_NAMES.get(split, ()))
    folders = [root / name for name in names if (root / name).is_dir()]
    found = sorted(path for path in (folders or [root])[0].iterdir() if path.name.endswith(SUFFIXES))
    named = [path for path in found if path.name.startswith(names)]
    others = tuple(word for words in SPLIT_NAMES.values() for word in words)
    if not folders and (named or split != "train" or any(path.name.startswith(others) for path in found)):
        found = named
    if not found:
        raise UserError(
            f"data.path: expected shards of {split} in {root} ({split}-000000.tar, or a folder {split}), found none. "
            f"Name them in data.splits.{split}."
        )
    return [str(path) for path in found]
