"""What ``data.splits`` and ``data.sources`` say, turned into a list of what has to be read.

An entry of ``data.splits`` may be

* a name: a TSV (Common Voice), a subset (GigaSpeech), a split (Hub), a value of ``columns.split`` or a file;
* a list of such: read one after the other;
* a mapping of the section's own keys: another corpus, see :func:`inherit`;
* absent: carved from train by ``held_out`` when that has a share for it, else the corpus's usual name (USUAL).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import DataArguments
from hf_asr.data.columns import GUESSES
from hf_asr.data.held_out import HeldOut, held_out_of
from hf_asr.data.listing import open_rows
from hf_asr.errors import UserError
from hf_asr.utterance import Drops

# What a corpus calls its splits, where not by our names. GigaSpeech's reader takes train for data.subset.
USUAL: dict[str, dict[str, str]] = {
    "common_voice": {"validation": "dev"},
    "gigaspeech": {"validation": "DEV", "test": "TEST"},
}
# Where a corpus is. A mapping that gives one of the first four is another place: it inherits none of them.
PLACE = ("path", "transcripts", "name", "subset")
NEVER_INHERITED = ("splits", "sources", "limit")


@dataclass(frozen=True, slots=True)
class Source:
    """What a reader has to read for a split.

    Attributes:
        name: Distinguishes its clips from those of a mixture's other sources; empty where there is only one.
        weight: Its share of the mixture, relative to the others'; None for its share of the clips.
        data: The section that describes its corpus.
        splits: What the reader is asked for, one after the other.
        held_out: How that is divided; no shares when it is taken whole.
        side: The side of it that is wanted.
    """

    name: str
    weight: float | None
    data: DataArguments
    splits: tuple[str, ...]
    held_out: HeldOut
    side: str = "train"


def resolve(data: DataArguments, split: str) -> list[Source]:
    """Return what has to be read for a split: one source, or several for a mixture.

    Weights hold for train. Validation and test are read whole, from those sources that have them.

    Args:
        data: The data section.
        split: ``train``, ``validation`` or ``test``.

    Raises:
        UserError: The split is neither given, nor carved, nor known by a usual name; or a mapping has unknown keys.
    """
    if not data.sources or isinstance(data.splits.get(split), Mapping):
        return [_source(data, split, whole=False)]
    sections = [_section_of_source(data, source, index) for index, source in enumerate(data.sources)]
    weights = _weights(data.sources) if split == "train" else [None] * len(sections)
    if split != "train":
        # A source may be there for training only; a split that no source has is the user's mistake.
        sections = [section for section in sections if _has(section, split)] or sections[:1]
    return [
        replace(_source(section, split, whole=False), name=f"{section.corpus}{index}", weight=weight)
        for index, (section, weight) in enumerate(zip(sections, weights, strict=False))
    ]


def inherit(data: DataArguments, given: Mapping[str, Any], place: str) -> DataArguments:
    """Return the section with a mapping's keys on top.

    Not inherited: ``splits``, ``sources`` and ``limit``; path, transcripts, name and subset when the mapping gives
    another place (``corpus``, ``path``, ``transcripts`` or ``name``); ``columns`` when it gives another corpus.

    Args:
        data: The section.
        given: Its keys again, with other values.
        place: Where the mapping stands, for the message.

    Raises:
        UserError: A key that the section does not have.
    """
    known = {field.name: field for field in fields(DataArguments)}
    for key in given:
        if key not in known or key in ("sources", "limit"):
            near = difflib.get_close_matches(str(key), [*known], n=1, cutoff=0.0)[0]
            raise UserError(f"{place}.{key}: expected a key of the data section, found none of that name. Try {near}.")
    left_out = set(NEVER_INHERITED)
    if {"corpus", "path", "transcripts", "name"} & set(given):
        left_out |= set(PLACE)
    if data.corpus and given.get("corpus", data.corpus) != data.corpus:
        left_out.add("columns")
    default = asdict(DataArguments())
    return replace(data, **{key: default[key] for key in left_out} | dict(given))


def _section_of_source(data: DataArguments, source: Mapping[str, Any], index: int) -> DataArguments:
    """Return a source as a section; its splits lie on top of those that the section has for all sources."""
    shared = {key: entry for key, entry in data.splits.items() if key == "held_out" or not isinstance(entry, Mapping)}
    keys = {key: value for key, value in source.items() if key != "weight"}
    keys["splits"] = shared | dict(keys.get("splits") or {})
    return inherit(data, keys, f"data.sources[{index}]")


def _weights(sources: list[dict[str, Any]]) -> list[float | None]:
    weights = [source.get("weight") for source in sources]
    given = [weight for weight in weights if weight is not None]
    if given and (len(given) < len(weights) or not all(isinstance(w, int | float) and w > 0 for w in given)):
        raise UserError(
            f"data.sources: expected a weight above 0 for every source, or for none, found {weights}. "
            "Without weights every clip is used once an epoch."
        )
    return weights


def _has(section: DataArguments, split: str) -> bool:
    given = section.splits.get(split) is not None or held_out_of(section.splits).share(split) > 0
    return given or _usual(section, split, whole=False) is not None


def _source(data: DataArguments, split: str, *, whole: bool) -> Source:
    """Return the source of a split, train's where the split is carved from it."""
    held_out = held_out_of(data.splits)
    named = "train" if held_out.share(split) > 0 else split
    entry = data.splits.get(named)
    if isinstance(entry, Mapping):
        source = _source(inherit(data, entry, f"data.splits.{named}"), named, whole=True)
    else:
        source = Source("", None, data, _names(data, named, entry, whole), HeldOut(validation=0.0))
    is_divided = named == "train" and held_out.divides
    return replace(source, held_out=held_out, side=split) if is_divided else source


def _names(data: DataArguments, split: str, entry: Any, whole: bool) -> tuple[str, ...]:
    """Return what an entry of ``data.splits`` names, or the usual name."""
    if entry is None:
        return (_usual(data, split, whole) or _missing(data, split),)
    names = [entry] if isinstance(entry, str) else list(entry)
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"data.splits.{split}: expected a name or file, or a list of them, found {entry}. Name some.")
    return tuple(names)


def _usual(data: DataArguments, split: str, whole: bool) -> str | None:
    """Return what the corpus usually calls a split; None for a manifest that has no such split.

    A manifest without a column of splits is train; given as a mapping, it is the split that the mapping stands for.
    """
    file = data.transcripts or data.path
    if data.corpus != "manifest" or (file and os.path.isdir(file)) or data.columns.get("split"):
        return USUAL.get(data.corpus, {}).get(split, split)
    if not file or _has_column_of_splits(file):
        return split if file else None
    return file if whole or split == "train" else None


def _has_column_of_splits(manifest: str) -> bool:
    columns, _ = open_rows(Path(manifest), Drops())
    return any(column.casefold() in GUESSES["split"] for column in columns)


def _missing(data: DataArguments, split: str) -> str:
    carve = "" if split == "train" else f"carve it from train with data.splits.held_out.{split}=0.05, or "
    place = f"{data.transcripts or data.path or 'no data.path'} has no column of splits"
    raise UserError(
        f"data.splits.{split}: expected to know which clips are {split}, found no entry, and {place}. Give "
        f"data.splits.{split} a file, {carve}name the column that tells the splits apart in data.columns.split."
    )
