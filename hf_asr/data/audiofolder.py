"""A folder of clips with their transcripts beside them.

::

    corpus/                     data.path
        train/                  optional: subfolders named after the splits (validation also: dev, valid, val)
            0001.wav
            0001.txt            the transcript of 0001.wav, or
            metadata.csv        file_name and text of all clips (also .jsonl and .tsv), here or in corpus/
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hf_asr.config.arguments import DataArguments
from hf_asr.data.columns import SPLIT_NAMES, unique_ids
from hf_asr.data.listing import read_rows
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".caf")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.tsv")


def read_folder(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the clips of one split of an audio folder, in the order of their names; no audio is opened.

    Args:
        data: The ``data`` section.
        split: Name of the subfolder; ``train`` is the whole folder where no subfolder is named after a split.
        drops: Takes ``missing_text`` (a clip without a transcript), and what a manifest's rows are dropped for.

    Raises:
        UserError: There is no such folder or split, or no clip in it.
    """
    if not data.path or not os.path.isdir(data.path):
        raise UserError(f"expected a folder of clips at data.path, found {data.path or 'nothing set'}")
    root = Path(data.path)
    folder = _folder_of(root, split)
    metadata = [
        path for place in dict.fromkeys((folder, root)) for name in METADATA if (path := place / name).is_file()
    ]
    rows = _listed(metadata[0], folder, data, drops) if metadata else _found(folder, root, data, drops)
    yield from unique_ids(rows, drops)


def _folder_of(root: Path, split: str) -> Path:
    """Return the subfolder of a split, or the whole folder."""
    names = {path.name: path for path in sorted(root.iterdir()) if path.is_dir()}
    for name in (split, *SPLIT_NAMES.get(split, ())):
        if name in names:
            return names[name]
    known = [name for name in names if any(name in words for words in SPLIT_NAMES.values())]
    if split == "train" and not known:
        return root
    found = ", ".join(names) or "none"
    raise UserError(f"expected a subfolder {split} in {root}, its subfolders are {found}; name one in data.splits")


def _listed(metadata: Path, folder: Path, data: DataArguments, drops: Drops) -> Iterator[Utterance]:
    """Yield the clips that a metadata file lists, those of one folder."""
    for row in read_rows(metadata, metadata.parent, data, drops, corpus="audiofolder"):
        if metadata.parent == folder or os.path.normpath(row.audio.path).startswith(os.path.join(folder, "")):
            yield row


def _found(folder: Path, root: Path, data: DataArguments, drops: Drops) -> Iterator[Utterance]:
    """Yield the clips of a folder whose transcripts are text files beside them."""
    empty = True
    above = {os.path.realpath(parent) for parent in folder.resolve().parents}  # the folders of other splits are there
    for path in _walk(folder, above):
        empty = False
        id = path.relative_to(root).as_posix()
        try:
            text = path.with_suffix(".txt").read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            drops.add("missing_text", id, f"{path.with_suffix('.txt').name}: {error}")
            continue
        yield Utterance(id, AudioRef(path=str(path)), text, language=data.language or "", corpus="audiofolder")
    if empty:
        raise UserError(f"expected clips ({', '.join(AUDIO_SUFFIXES)}) in {folder}, found none")


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    """Yield clips below a folder, following links; each real folder is entered once, so that loops end."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, seen)
        elif entry.suffix.lower() in AUDIO_SUFFIXES and entry.is_file():
            yield entry
