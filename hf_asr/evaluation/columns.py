"""What clips are grouped by: the column of a value (speaker, gender) or of a number cut at bounds (duration)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_asr.errors import UserError
from hf_asr.evaluation.counts import ErrorCounts
from hf_asr.utterance import Seconds

# Bounds of the numbers that every set has, and their units. Speaking rates differ between languages and are cut at
# their quartiles, as are numbers of the corpus without bounds.
BOUNDS: dict[str, tuple[float, ...]] = {"duration": (5, 15), "reference_length": (5, 15, 30), "snr": (10, 20)}
UNITS = {"duration": "s", "reference_length": "words", "speaking_rate": "characters/s", "snr": "dB"}
# Without evaluation.slices: those of these that a corpus tells.
USUAL = ("duration", "reference_length", "speaking_rate", "snr", "speaker", "gender", "age", "accent")
# A column of so many different numbers is cut into ranges, one of fewer is taken by its values.
MANY_VALUES = 12
UNKNOWN = -1

Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Clips:
    """What is known of the scored utterances beside their errors, one entry an utterance.

    Attributes:
        durations: Lengths in seconds; None where unknown.
        speakers: Their names; empty where unknown.
        columns: Further columns by name, cells being text or numbers; empty or None where unknown.
    """

    durations: Sequence[Seconds | None]
    speakers: Sequence[str]
    columns: Mapping[str, Sequence[Cell]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """A column cut into groups.

    Attributes:
        name: The column.
        kind: ``range`` or ``value``.
        unit: Unit of the numbers, or None.
        labels: What people call each group.
        limits: (value, low, high) of each group.
        codes: The group of each utterance, ``UNKNOWN`` for none.
    """

    name: str
    kind: str
    unit: str | None
    labels: tuple[str, ...]
    limits: tuple[tuple[str | None, float | None, float | None], ...]
    codes: NDArray[np.int64]


def groupings(wanted: Sequence[Any], counts: ErrorCounts, clips: Clips) -> Iterator[Grouping]:
    """Cut a scored set by every column that is wanted.

    Args:
        wanted: ``evaluation.slices``: names, or mappings of a name to bounds; empty for the usual ones that are known.
        counts: Error counts of the set.
        clips: What is known of its utterances.

    Raises:
        UserError: A column that was asked for is missing or holds nothing, or one with bounds holds no number.
    """
    found = known_columns(counts, clips)
    for name, bounds in bounds_by_name(wanted).items() if wanted else ((name, None) for name in USUAL):
        cells = found.get(name)
        if cells is not None and any(cell not in (None, "") for cell in cells):
            yield group(name, cells, bounds)
        elif wanted:
            raise UserError(_missing(name, cells is not None, found))


def bounds_by_name(wanted: Sequence[Any]) -> dict[str, Sequence[float] | None]:
    """Return the columns of ``evaluation.slices``, each with its bounds or None."""
    named: dict[str, Sequence[float] | None] = {}
    for item in wanted:
        named |= {item: None} if isinstance(item, str) else {name: bounds or None for name, bounds in item.items()}
    return named


def known_columns(counts: ErrorCounts, clips: Clips) -> dict[str, Sequence[Cell]]:
    """Return every column a set can be cut by; the corpus's own columns do not hide ours."""
    ours: dict[str, Sequence[Cell]] = {
        "duration": clips.durations,
        "reference_length": counts.words.reference_length.tolist(),
        "speaking_rate": _rates(counts, clips.durations),
        "speaker": clips.speakers,
    }
    return {**clips.columns, **ours}


def group(name: str, cells: Sequence[Cell], bounds: Sequence[float] | None = None) -> Grouping:
    """Cut one column: at its bounds, at the usual ones, at quartiles of many different numbers, else by its values.

    Raises:
        UserError: Bounds were given for a column without a number.
    """
    numbers = np.array([as_number(cell) for cell in cells], np.float64)
    known = numbers[np.isfinite(numbers)]
    if bounds and not len(known):
        raise UserError(
            f"evaluation.slices: expected numbers in the column {name}, which has bounds, found none; name it without "
            "bounds to group it by its values"
        )
    given = sum(cell not in (None, "") for cell in cells)
    numeric = len(known) and 2 * len(known) > given and len(np.unique(known)) > MANY_VALUES
    if bounds or name in BOUNDS:
        return _by_range(name, numbers, sorted(set(map(float, bounds or BOUNDS[name]))))
    if name != "speaker" and (numeric or name in UNITS):
        quartiles = np.unique(np.quantile(known, [0.25, 0.5, 0.75])) if len(known) else np.empty(0)
        return _by_range(name, numbers, [float(f"{bound:.3g}") for bound in quartiles])
    return _by_value(name, [str(cell) if cell not in (None, "") else "" for cell in cells])


def as_number(cell: Cell) -> float:
    """Return a cell as a finite number; nan for anything else."""
    try:
        number = float(cell) if cell is not None else math.nan
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _by_range(name: str, numbers: NDArray[np.float64], bounds: Sequence[float]) -> Grouping:
    bounds = sorted(set(bounds))
    unit = UNITS.get(name)
    edges = [None, *bounds, None]
    limits = list(pairwise(edges))
    codes = np.where(np.isfinite(numbers), np.searchsorted(bounds, numbers, side="right"), UNKNOWN).astype(np.int64)
    labels = tuple(_range_label(low, high, unit) for low, high in limits)
    return Grouping(name, "range", unit, labels, tuple((None, low, high) for low, high in limits), codes)


def _range_label(low: float | None, high: float | None, unit: str | None) -> str:
    tail = f" {unit}" if unit else ""
    if low is None:
        return f"below {high:g}{tail}" if high is not None else "all"
    return f"from {low:g}{tail}" if high is None else f"{low:g} to {high:g}{tail}"


def _by_value(name: str, values: Sequence[str]) -> Grouping:
    """Group by value, the largest group first."""
    found, codes, sizes = np.unique(np.array(values, dtype=object), return_inverse=True, return_counts=True)
    order = [int(place) for place in np.argsort(-sizes, kind="stable") if found[place]]
    number = np.full(len(found), UNKNOWN, np.int64)
    number[order] = np.arange(len(order))
    labels = tuple(str(found[place]) for place in order)
    return Grouping(name, "value", None, labels, tuple((label, None, None) for label in labels), number[codes])


def _rates(counts: ErrorCounts, durations: Sequence[Seconds | None]) -> list[float | None]:
    """Return reference characters a second."""
    lengths = counts.characters.reference_length.tolist()
    pairs = zip(lengths, map(as_number, durations), strict=True)
    return [length / seconds if seconds > 0 else None for length, seconds in pairs]


def _missing(name: str, empty: bool, found: Mapping[str, Any]) -> str:
    if empty:
        return (
            f"evaluation.slices: expected values in the column {name}, found it empty for every clip; remove it, or "
            "fill it in the corpus"
        )
    near = difflib.get_close_matches(name, found, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"evaluation.slices: expected a column {name} of the corpus, found {', '.join(found)}.{hint}"
