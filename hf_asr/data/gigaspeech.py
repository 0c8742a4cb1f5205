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
from typing import Any, TextIO

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
_NO_SPEAKER = "N/A"
_HUB_SPLITS = {"DEV": "validation", "TEST": "test"}
_TAG = re.compile(r"\s*(<[A-Z]+>)")
_LIST = re.compile(r'"audios"\s*:\s*\[')
_ENTRY = re.compile(r"[\s,]*([{\]])")
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
        yield from _read_hub(data, split, drops)
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
    """Tell whether the Parquet form is meant."""
    if data.name or not data.path:
        return bool(data.name)
    path = Path(data.path)
    is_folder = path.is_dir() and not data.transcripts and not (path / _NAME).exists()
    return path.suffix == ".parquet" or (is_folder and any(True for _ in path.rglob("*.parquet")))


def _read_hub(data: DataArguments, split: str, drops: Drops) -> Iterator[Utterance]:
    data, split = _hub_names(data, split)
    yield from cleaned(read_hub(data, split, drops), drops)


def _hub_names(data: DataArguments, split: str) -> tuple[DataArguments, str]:
    """Return what the Parquet form calls a subset: a configuration, in lower case, with splits of its own."""
    if (name := split.strip("{}").upper()) in SUBSETS:
        data, split = replace(data, subset=name.lower()), _HUB_SPLITS.get(name, "train")
    elif data.subset:
        data = replace(data, subset=data.subset.lower())
    return data, split


def parquet_form(data: DataArguments, split: str) -> tuple[DataArguments, str] | None:
    """Return the section and the split under which the Parquet form of a subset is found; None without that form."""
    return _hub_names(data, split) if _is_hub(data) else None


def cleaned(rows: Iterator[Utterance], drops: Drops) -> Iterator[Utterance]:
    """Yield rows of the Parquet form with their tags read; ``drops`` takes those of garbage."""
    for row in rows:
        if text := plain_text(row.text):
            speaker = "" if row.speaker == _NO_SPEAKER else row.speaker
            yield replace(row, text=text, speaker=speaker, corpus="gigaspeech")
        else:
            drops.add("garbage", row.id, row.text)


def _json_of(data: DataArguments) -> str:
    if not data.path:
        raise UserError(f"data.corpus gigaspeech needs data.path, the folder of {_NAME} (or data.name, a Hub id)")
    return os.path.join(data.path, _NAME) if os.path.isdir(data.path) else data.path


def _subset(split: str, chosen: str | None) -> str:
    name = (chosen or "XL") if split == "train" else split
    subset = name.strip("{}").upper()
    subset = "DEV" if subset == "VALIDATION" else subset
    if subset not in SUBSETS:
        raise UserError(f"GigaSpeech's subsets are {', '.join(SUBSETS)}; found {name!r} in data.splits or data.subset")
    return subset


def _segments(source: Path, root: Path, subset: str, language: str, drops: Drops) -> Iterator[Utterance]:
    """Yield the segments of one subset; those that cannot be used are dropped."""
    wanted, seen = f"{{{subset}}}", set[str]()
    for audio in _audios(source):
        segments = _objects(audio, drops)
        seen.update(str(name) for segment in segments for name in segment.get("subsets", ()))
        chosen = [segment for segment in segments if wanted in segment.get("subsets", ())]
        missing = _missing(root, str(audio.get("path"))) if chosen else None
        for segment in chosen:
            try:
                row = _utterance(audio, segment, root, language)
                fault = missing or _fault(row, segment, audio)
            except (KeyError, TypeError, ValueError) as error:
                drops.add("bad_row", str(segment.get("sid", audio.get("aid"))), f"{type(error).__name__}: {error}")
                continue
            if fault:
                drops.add(fault[0], row.id, fault[1])
            else:
                yield row
    if wanted not in seen:
        found = ", ".join(name for name in SUBSETS if f"{{{name}}}" in seen) or "none"
        raise UserError(f"{source} has no segment of subset {subset}; its subsets are {found}; name one in data.splits")


def _objects(audio: Mapping[str, Any], drops: Drops) -> list[dict[str, Any]]:
    """Return the segments of an audio that can be read; the others are dropped."""
    found = audio.get("segments", [])
    listed = found if isinstance(found, list) else [found]
    good = [item for item in listed if isinstance(item, dict) and isinstance(item.get("subsets", []), list)]
    for _ in range(len(listed) - len(good)):
        drops.add("bad_row", str(audio.get("aid")), "a segment that is no object with a list of subsets")
    return good


def _missing(root: Path, name: str) -> tuple[str, str] | None:
    """Return why an audio file cannot be used: (reason, detail)."""
    if leaves_folder(name):
        return "outside_release", f"{name} is refused, it leads out of the release"
    return None if os.path.isfile(root / name) else ("missing_audio", f"no {name} in {root}")


def _fault(row: Utterance, segment: Mapping[str, Any], audio: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a segment cannot be used: (reason, detail)."""
    if not row.text:
        return "garbage", str(segment["text_tn"])
    begin, end, length = row.audio.start, row.audio.end or 0.0, float(audio.get("duration", "inf"))
    if not 0 <= begin < end <= length + SEGMENT_SLACK:
        return "outside_audio", f"{begin} s to {end} s of {audio['path']}, which lasts {length} s"
    return None


def _utterance(audio: Mapping[str, Any], segment: Mapping[str, Any], root: Path, language: str) -> Utterance:
    begin, end = float(segment["begin_time"]), float(segment["end_time"])
    speaker = str(segment.get("speaker", _NO_SPEAKER))
    return Utterance(
        id=str(segment["sid"]),
        audio=AudioRef(path=str(root / audio["path"]), start=begin, end=end),
        text=plain_text(segment["text_tn"]),
        speaker="" if speaker == _NO_SPEAKER else speaker,
        duration=end - begin,
        language=language,
        corpus="gigaspeech",
        extra={name: str(audio[name]) for name in ("aid", "source", "category") if audio.get(name)},
    )


def _audios(source: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of the list ``audios`` one at a time: the real file takes 30 GB as Python objects."""
    decoder = json.JSONDecoder()
    with open(source, encoding="utf-8-sig") as file:
        buffer = ""
        try:
            while not (head := _LIST.search(buffer)):
                buffer += _more(file, source)
            position = head.end()
            while True:
                while not (start := _ENTRY.match(buffer, position)):
                    buffer, position = buffer[position:] + _more(file, source), 0
                if start[1] == "]":
                    return
                try:
                    audio, position = decoder.raw_decode(buffer, start.start(1))
                except json.JSONDecodeError:  # the entry ends beyond what has been read, or the file is damaged
                    buffer, position = buffer[position:] + _more(file, source), 0
                    continue
                yield audio
        except UnicodeDecodeError as error:
            raise UserError(f"{source} is no UTF-8 text ({error}); fetch it again") from error


def _more(file: TextIO, source: Path) -> str:
    block = file.read(_BLOCK)
    if not block:
        raise UserError(f"expected a whole {_NAME} with a list of audios at {source}, it ends or breaks off before")
    return block
