"""GigaSpeech: one GigaSpeech.json that describes segments of long Opus files.

::

    GigaSpeech/                     data.path: this folder, or GigaSpeech.json itself
        GigaSpeech.json             or data.transcripts
        audio/podcast/P0001/POD0000000001.opus

A split is a subset: XS (10 h), S (250 h), M (1,000 h), L (2,500 h), XL (10,000 h), DEV or TEST; ``train`` is
data.subset (XL without one), ``validation`` DEV and ``test`` TEST. The Parquet form of the Hub (data.name, or a
data.path without GigaSpeech.json) is read as any Hub data set, its transcripts cleaned in the same way; data.subset is
its configuration (xs ... xl).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import DataArguments
from hf_asr.data.columns import leaves_folder, unique_ids
from hf_asr.data.containers import SEGMENT_SLACK
from hf_asr.data.hub_dataset import read_hub
from hf_asr.data.tables import check_file
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

SUBSETS = ("XS", "S", "M", "L", "XL", "DEV", "TEST")
PUNCTUATION = {"<COMMA>": ",", "<PERIOD>": ".", "<QUESTIONMARK>": "?", "<EXCLAMATIONPOINT>": "!"}
GARBAGE = ("<SIL>", "<MUSIC>", "<NOISE>", "<OTHER>")
_NAME = "GigaSpeech.json"
_OUR_SPLITS = {"VALIDATION": "DEV"}
_TAG = re.compile(r"\s*(<[A-Z]+>)")
_BLOCK = 2**22  # characters of JSON read at a time


def read(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the segments of a subset; no audio is opened, and the JSON is never in memory as a whole.

    Args:
        data: The ``data`` section.
        split: A subset, with or without braces, or train, validation, test.
        drops: Takes ``garbage`` (nothing but <SIL> <MUSIC> <NOISE> <OTHER>), ``missing_audio``, ``outside_audio`` (a
            segment that its file does not hold), ``outside_release``, ``bad_row``, ``duplicate_id``.

    Raises:
        UserError: GigaSpeech.json is missing or damaged, or has no such subset.
    """
    if _is_hub(data):
        yield from (row for row in map(lambda row: _cleaned(row, drops), read_hub(data, split, drops)) if row)
        return
    source = check_file(data.transcripts or _json_of(data), f"GigaSpeech's {_NAME}")
    subset = _subset(split, data.subset)
    root = Path(data.path) if data.path and os.path.isdir(data.path) else source.parent
    yield from unique_ids(_segments(source, root, subset, data.language or "en", drops), drops)


def plain_text(tagged: str) -> str:
    """Turn GigaSpeech's tags into what they stand for.

    Punctuation joins the word before it (``HELLO <COMMA> YOU`` is ``HELLO, YOU``), the garbage tags vanish.
    """
    text = _TAG.sub(lambda found: PUNCTUATION.get(found[1], "" if found[1] in GARBAGE else found[0]), tagged)
    return " ".join(text.split()).lstrip(",.?! ")


def _is_hub(data: DataArguments) -> bool:
    if data.transcripts or (data.path and os.path.isfile(data.path) and data.path.endswith(".json")):
        return False
    return bool(data.name) or bool(data.path and not os.path.exists(os.path.join(data.path, _NAME)) and _has_parquet(data.path))


def _has_parquet(path: str) -> bool:
    return path.endswith(".parquet") or any(True for _ in Path(path).rglob("*.parquet"))


def _json_of(data: DataArguments) -> str:
    if not data.path:
        raise UserError(f"data.corpus gigaspeech needs data.path, the folder of {_NAME} (or data.name, a Hub id)")
    return os.path.join(data.path, _NAME) if os.path.isdir(data.path) else data.path


def _subset(split: str, chosen: str | None) -> str:
    name = (chosen or "XL") if split == "train" else split
    subset = name.strip("{}").upper()
    subset = _OUR_SPLITS.get(subset, subset)
    if subset not in SUBSETS:
        raise UserError(f"GigaSpeech's subsets are {', '.join(SUBSETS)}; found {name!r} in data.splits or data.subset")
    return subset


def _segments(source: Path, root: Path, subset: str, language: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the segments of one subset, those that cannot be used dropped."""
    wanted, seen = f"{{{subset}}}", set[str]()
    for audio in _audios(source):
        names = {str(name) for segment in audio["segments"] for name in segment["subsets"]}
        seen |= names
        if wanted in names:
            path = _file(root, str(audio["path"]))
            for segment in audio["segments"]:
                if wanted in segment["subsets"] and (row := _utterance(audio, segment, path, language, drops)):
                    yield row
    if wanted not in seen:
        found = ", ".join(name for name in SUBSETS if f"{{{name}}}" in seen) or "none"
        raise UserError(
            f"{source} has no segment of subset {subset}, its subsets are {found}; name one of them in data.splits, or "
            "leave the split out to have it held out of train"
        )


def _file(root: Path, name: str) -> str:
    """Return the path of an audio file, empty where it leads out of the release; "?" stands for a missing one."""
    return "" if leaves_folder(name) else str(root / name)


def _utterance(
    audio: Mapping[str, Any], segment: Mapping[str, Any], path: str, language: str, drops: Drops
) -> Utterance | None:
    sid, begin, end = str(segment["sid"]), float(segment["begin_time"]), float(segment["end_time"])
    text, speaker = plain_text(str(segment["text_tn"])), str(segment.get("speaker", ""))
    if not text:
        drops.add("garbage", sid, str(segment["text_tn"]))
    return None
