"""Rows of a manifest file, whatever its form (a delimited table, JSON lines), and the utterances they make."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import DataArguments
from hf_asr.data.columns import Columns, as_seconds, in_split, outvoted
from hf_asr.data.tables import Region, byte_lines, check_file, open_table
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Drops, Utterance

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)
# JSON lines that are held to learn their keys: about 5 MB.
HEAD = 10_000

Rows = Iterator[tuple[int, dict[str, Any]]]


def read_rows(
    path: Path, base: Path, data: DataArguments, drops: Drops, split: str | None = None, corpus: str = "manifest"
) -> Iterator[Utterance]:
    """Yield the utterances that a manifest file lists; no audio is opened.

    Args:
        path: The file.
        base: Folder that relative paths of clips start at.
        data: The ``data`` section.
        drops: Takes ``bad_row``, ``votes`` (data.filter_votes) and ``missing_audio``.
        split: Only rows of this split; None, or ``train`` where there is no column of splits, takes all.
        corpus: Name of the corpus.

    Raises:
        UserError: The file cannot be read, lacks a column, or has no row of this split.
    """
    found, rows = open_rows(path, drops)
    columns = Columns.choose(found, data.columns, str(path), needed_roles(data))
    if split is not None and "split" not in columns.names:
        if split != "train":
            raise UserError(
                f"{path} has no column of splits, so it has no {split}; give data.splits.{split} a file, or name the "
                f"column in data.columns.split (its columns are {', '.join(found)})"
            )
        split = None
    others: set[str] = set()
    empty = True
    for line, row in rows:
        if split is not None and not in_split(value := columns.text(row, "split"), split):
            others.add(value)
            continue
        empty = False
        if utterance := _utterance(row, line, base, columns, data, drops, corpus):
            yield utterance
    if empty and split is not None:
        values = ", ".join(sorted(others)[:20]) or "nothing"
        raise UserError(f"no row of {path} is of split {split}; column {columns.names['split']} holds {values}")


def needed_roles(data: DataArguments) -> tuple[str, ...]:
    """Return the roles that need a column: a corpus with labels may do without text."""
    return ("audio",) if "label" in data.columns else ("audio", "text")


def _utterance(
    row: dict[str, Any], line: int, base: Path, columns: Columns, data: DataArguments, drops: Drops, corpus: str
) -> Utterance | None:
    name = columns.text(row, "audio")
    start, end = _segment(row, columns)
    id = columns.text(row, "id") or (name if end is None else f"{name}@{start:g}") or f"line {line}"
    place = os.path.join(base, name)
    if data.filter_votes and (votes := outvoted(row)):
        drops.add("votes", id, votes)
    elif start < 0:
        drops.add("bad_row", id, f"line {line}: no stretch of a file: {_stretch(row, columns)}")
    elif not name or "\0" in name or not os.path.isfile(place):  # False for a loop of links
        drops.add("missing_audio", id, f"line {line}: no file {place}" if name else f"line {line}: names no file")
    else:
        audio = AudioRef(path=place, start=start, end=end)
        return columns.utterance(row, audio, id, corpus, data.language or "")
    return None


def _segment(row: dict[str, Any], columns: Columns) -> tuple[float, float | None]:
    """Return start and end where ``data.columns`` names them, or of a NeMo manifest's segment, else the whole file's.

    A start below 0 means that they are none. Columns called start and end are not taken unasked: they may be where a
    clip was cut from. NeMo's ``offset`` and ``duration`` are.
    """
    if "start" in columns.names and "end" in columns.names:
        start, end = (_offset(row.get(columns.names[role])) for role in ("start", "end"))
        return (start, end) if 0 <= start < end else (-1.0, None)
    seconds = as_seconds(row.get(columns.names["duration"])) if "duration" in columns.names else None
    if columns.names["audio"] != "audio_filepath" or row.get("offset") is None or seconds is None:
        return 0.0, None
    offset = _offset(row["offset"])
    return offset, offset + seconds


def _stretch(row: dict[str, Any], columns: Columns) -> str:
    """Return what a row says of its stretch, for the message."""
    names = [columns.names[role] for role in ("start", "end") if role in columns.names] or ["offset"]
    return ", ".join(f"{name} {row.get(name)!r}" for name in names)


def _offset(value: Any) -> float:
    """Return a cell as seconds from a file's beginning; below 0 for what is none."""
    try:
        offset = 0.0 if value == "" else float(value)
    except (TypeError, ValueError):
        return -1.0
    return offset if 0 <= offset < float("inf") else -1.0


def open_rows(path: Path, drops: Drops) -> tuple[list[str], Rows]:
    """Open a manifest file.

    Args:
        path: The file; ``.jsonl``, ``.ndjson`` and ``.json`` are JSON lines, everything else a table.
        drops: Takes rows that cannot be read, as ``bad_row``, named by their line.

    Returns:
        Its columns (of JSON lines: the keys of the first ``HEAD`` lines, since many writers leave out what is empty)
        and its rows, lazily, each with its line number.

    Raises:
        UserError: The file is missing, empty, or of another form.
    """
    if path.suffix.lower() not in JSON_SUFFIXES:
        table = open_table(Region(path))
        return list(table.columns), table.rows(drops)
    rows = _json_rows(check_file(path, "a manifest"), drops)
    head = list(itertools.islice(rows, HEAD))
    if not head:
        raise UserError(f"{path} holds no row; expected one JSON object on each line{_why(drops, path)}")
    return list(dict.fromkeys(name for _, row in head for name in row)), itertools.chain(head, rows)


def _json_rows(path: Path, drops: Drops) -> Rows:
    for number, line in byte_lines(Region(path)):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also bytes that are not UTF-8, and brackets without an end
            row, fault = None, f"not JSON: {error}"
        else:
            fault = f"expected an object, found {type(row).__name__}"
        if isinstance(row, dict):
            yield number, row
        else:
            drops.add("bad_row", f"{path}, line {number}", fault)


def _why(drops: Drops, path: Path) -> str:
    """Tell what was wrong with the first line that could not be read."""
    faults = [detail for place, detail in drops.reasons.get("bad_row", []) if place.startswith(f"{path}, line ")]
    return f"; {faults[0]}" if faults else ""
