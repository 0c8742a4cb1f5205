"""A corpus of one's own: a CSV, TSV or JSON-lines file that names clips and their transcripts.

::

    path,text,speaker,split
    wavs/0001.wav,"Well, yes.",anna,train
    wavs/0002.mp3,No.,ben,test

Columns are taken by their names (hf_asr.data.columns.GUESSES) unless data.columns says otherwise. A relative path
starts at the manifest's folder, or at data.path where that is a folder that the manifest does not lie in. Absolute
paths and ``..`` are allowed: the file is the user's own. JSON lines in NeMo's form (``audio_filepath``, ``offset``,
``duration``) name segments of long files.

:func:`read_folder` (data.corpus audiofolder) and :func:`read_hub` (hub) stand in modules of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audiofolder import read_folder
from hf_asr.data.columns import SPLIT_NAMES, unique_ids
from hf_asr.data.durations import NAME as DURATIONS
from hf_asr.data.hub_dataset import read_hub
from hf_asr.data.listing import SUFFIXES, read_rows
from hf_asr.data.tables import check_file
from hf_asr.errors import UserError
from hf_asr.utterance import Drops, Utterance

__all__ = ["read", "read_folder", "read_hub"]


def read(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the utterances of one split of a manifest; no audio is opened.

    Args:
        data: The ``data`` section. ``path`` (or ``transcripts``, then ``path`` is the clips' folder) is the manifest,
            or a folder with one manifest a split (``train.tsv``, ``dev.csv`` ...) or a single one.
        split: A manifest file, taken whole; or a value of the column of splits.
        drops: Takes ``bad_row``, ``votes``, ``missing_audio`` and ``duplicate_id``.

    Raises:
        UserError: There is no such manifest or split, or it cannot be read.
    """
    source, wanted = _find(data, split)
    inside = not data.path or not os.path.isdir(data.path) or Path(data.path).resolve() in source.resolve().parents
    base = source.parent if inside else Path(data.path or "")
    yield from unique_ids(read_rows(source, base, data, drops, wanted), drops)


def _find(data: DataArguments, split: str) -> tuple[Path, str | None]:
    """Return the manifest of a split, and the split to look for in it (None: it is the split)."""
    place = data.transcripts or data.path
    for file in (split, os.path.join(place or "", split)):
        if Path(split).suffix and os.path.isfile(file):
            return Path(file), None
    if not place:
        raise UserError(f"data.corpus manifest needs data.path, or a file for data.splits.{split}")
    if not os.path.isdir(place):
        return check_file(place, "a manifest (CSV, TSV or JSON lines)"), split
    return _find_in(Path(place), split)


def _find_in(folder: Path, split: str) -> tuple[Path, str | None]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name != DURATIONS)
    for name in dict.fromkeys((split, *SPLIT_NAMES.get(split, ()))):
        if named := [path for path in files if path.stem == name]:
            return named[0], None
    if len(files) == 1:
        return files[0], split
    found = ", ".join(path.name for path in files) or "no such file"
    raise UserError(
        f"expected a manifest of {split} in {folder} ({split}.tsv, .csv or .jsonl), found {found}; "
        f"name it in data.splits.{split}"
    )
