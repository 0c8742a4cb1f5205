"""What two splits have in common that they should not: clips, sentences, speakers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import datasets

Row = dict[str, Any]
ROWS_AT_ONCE = 10_000


def clip_of(row: Row) -> str:
    """Return what tells a clip; two corpora may both number theirs from 1, so its text belongs to it."""
    return "\n".join((row["corpus"], row["id"], row["text"]))


def sentence_of(row: Row) -> str:
    """Return a text whatever its case and spaces."""
    return " ".join(row["text"].casefold().split())


def speaker_of(row: Row) -> str:
    """Return a speaker within a corpus; empty when unknown."""
    return f"{row['corpus']}\n{row['speaker']}" if row["speaker"] else ""


KINDS: dict[str, Callable[[Row], str]] = {"clip": clip_of, "sentence": sentence_of, "speaker": speaker_of}


def leaks_between(first: str, first_rows: datasets.Dataset, second: str, second_rows: datasets.Dataset) -> list[str]:
    """Return one line for each kind of leak.

    Args:
        first: Name of the larger split, usually train.
        first_rows: Its rows; read once, none is kept.
        second: Name of a split that is evaluated.
        second_rows: Its rows.

    Returns:
        Lines such as "test: 12 of its 60 clips have a sentence that train has too, such as 'Yes.'"; a single line
        when both are the same clips; none when they have nothing in common.
    """
    evaluated = {kind: {key_of(row) for row in _texts(second_rows)} - {""} for kind, key_of in KINDS.items()}
    shared: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for row in _texts(first_rows):
        for kind, key_of in KINDS.items():
            if (key := key_of(row)) in evaluated[kind]:
                shared[kind].add(key)
    if len(first_rows) == len(second_rows) and shared["clip"] == evaluated["clip"]:
        return [f"{second}: it is the same {len(second_rows)} clips as {first}"]
    return [_line(first, second, second_rows, kind, shared[kind]) for kind in KINDS if shared[kind]]


def _line(first: str, second: str, rows: datasets.Dataset, kind: str, shared: set[str]) -> str:
    matches = [row for row in _texts(rows) if KINDS[kind](row) in shared]
    what = {
        "clip": f"are in {first} too, such as {matches[0]['id']}",
        "sentence": f"have a sentence that {first} has too, such as {matches[0]['text']!r}",
        "speaker": f"have a speaker whom {first} has too ({len(shared)} speakers)",
    }
    return f"{second}: {len(matches)} of its {len(rows)} clips {what[kind]}"


def _texts(rows: datasets.Dataset) -> Iterator[Row]:
    columns = ["corpus", "id", "text", "speaker"]
    for block in rows.select_columns(columns).iter(batch_size=ROWS_AT_ONCE):
        for values in zip(*(block[column] for column in columns), strict=True):
            yield dict(zip(columns, values, strict=True))
