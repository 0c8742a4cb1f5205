"""The part of test_detailed_analysis.json that predictions alone can tell, for runs that were scored without it.

It has the keys of docs/outputs.md as far as it goes, so that a page reads both in one way.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.intervals import Units, interval_of

MOST_PAIRS = 50
MOST_GROUPS = 50
SMALL_UTTERANCES, SMALL_WORDS = 30, 100
# Bounds of docs/outputs.md: seconds, and words of the reference.
DURATIONS = (5.0, 15.0)
LENGTHS = (6.0, 16.0)
# Confusions are read from so many utterances, evenly spread: an alignment is kept for each.
MOST_ALIGNED = 20_000

Prediction = Mapping[str, Any]


def analyse_predictions(predictions: Sequence[Prediction], rate: str = "wer") -> dict[str, Any]:
    """Return slices by duration, reference length and speaker, and the confusions of words.

    Args:
        predictions: Rows of test_predictions.csv; of :func:`in_characters` for ``cer``.
        rate: Which rate the counts make, ``wer`` or ``cer``.
    """
    names = ("substitutions", "deletions", "insertions", "hits")
    s, d, i, h = (np.array([row[name] for row in predictions], dtype=np.float64) for name in names)
    errors, lengths = s + d + i, h + s + d
    slices = [
        _ranges(name, unit, bounds, values, errors, lengths, rate)
        for name, unit, bounds, values in (
            ("duration", "s", DURATIONS, [row["duration"] for row in predictions]),
            ("reference_length", "words", LENGTHS, [len(row["reference_normalized"].split()) for row in predictions]),
        )
    ]
    speakers = [row["speaker"] for row in predictions]
    if len(set(speakers) - {""}) > 1:
        slices.append(_values("speaker", speakers, errors, lengths, rate))
    return {
        "rate": rate,
        "slices": slices,
        "confusions": {"characters" if rate == "cer" else "words": confusions(predictions, rate == "cer")},
        "findings": {},
    }


def confusions(predictions: Sequence[Prediction], characters: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Return the most frequent substitutions, deletions and insertions of words, each with an example."""
    wrong = [row for row in predictions if row["substitutions"] + row["deletions"] + row["insertions"]]
    if len(wrong) > MOST_ALIGNED:
        wrong = [wrong[index * len(wrong) // MOST_ALIGNED] for index in range(MOST_ALIGNED)]
    found: dict[str, Counter[tuple[str | None, str | None]]] = {kind: Counter() for kind in "SDI"}
    examples: dict[tuple[str, str | None, str | None], Prediction] = {}
    for row, alignment in zip(wrong, align(wrong, characters), strict=True):
        for kind, reference, hypothesis in alignment:
            if kind != "=":
                found[kind][reference, hypothesis] += 1
                examples.setdefault((kind, reference, hypothesis), row)
    names = {"S": "substitutions", "D": "deletions", "I": "insertions"}
    return {
        names[kind]: [_confusion(pair, count, examples[(kind, *pair)]) for pair, count in pairs.most_common(MOST_PAIRS)]
        for kind, pairs in found.items()
    }


def align(
    predictions: Sequence[Prediction], characters: bool = False
) -> list[list[tuple[str, str | None, str | None]]]:
    """Return the word alignment of each prediction: (kind, reference, hypothesis), kind ``=``, ``S``, ``D`` or ``I``.

    What is right stands together in one entry, errors stand one by one.
    """
    if not any(row["reference_normalized"].strip() for row in predictions):
        return [_only_insertions(row) for row in predictions]
    columns = ([row[f"{side}_normalized"] for row in predictions] for side in ("reference", "hypothesis"))
    counts = count_errors(*columns, normalizer="none")
    return [
        [(kind, one, other) for kind, one, other in counts.alignment(row, characters)]
        for row in range(len(predictions))
    ]


def in_characters(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return the predictions with their errors counted in characters, for languages written without spaces."""
    if not any(row["reference_normalized"].strip() for row in predictions):
        return [dict(row) for row in predictions]
    sides = ([row[f"{side}_normalized"] for row in predictions] for side in ("reference", "hypothesis"))
    columns = count_errors(*sides, normalizer="none").characters
    names = ("substitutions", "deletions", "insertions", "hits")
    counted = zip(columns.substitutions, columns.deletions, columns.insertions, columns.hits, strict=True)
    return [
        {**row, **dict(zip(names, map(int, counts), strict=True))}
        for row, counts in zip(predictions, counted, strict=True)
    ]


def _only_insertions(row: Prediction) -> list[tuple[str, str | None, str | None]]:
    return [("I", None, word) for word in row["hypothesis_normalized"].split()]


def _confusion(pair: tuple[str | None, str | None], count: int, row: Prediction) -> dict[str, Any]:
    example = {"id": row["id"], "reference": row["reference_normalized"], "hypothesis": row["hypothesis_normalized"]}
    return {"reference": pair[0], "hypothesis": pair[1], "count": count, "examples": [example]}


def _ranges(
    name: str, unit: str, bounds: Sequence[float], values: Sequence[float | None], errors: Any, lengths: Any, rate: str
) -> dict[str, Any]:
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    ends = [None, *bounds, None]
    groups = []
    for low, high in itertools.pairwise(ends):
        chosen = ~np.isnan(numbers) & (numbers >= (low or -np.inf)) & (numbers < (high or np.inf))
        if chosen.any():
            groups.append(_group(_range_label(low, high, unit), chosen, errors, lengths, rate))
    return _slice(name, "range", unit, int(np.isnan(numbers).sum()), groups, 0)


def _values(name: str, values: Sequence[str], errors: Any, lengths: Any, rate: str) -> dict[str, Any]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        rows[value].append(row)
    unknown = len(rows.pop("", []))
    largest = sorted(rows, key=lambda value: -len(rows[value]))
    groups = [_group(value, np.array(rows[value]), errors, lengths, rate) for value in largest[:MOST_GROUPS]]
    return _slice(name, "value", None, unknown, groups, max(0, len(largest) - MOST_GROUPS))


def _slice(name: str, kind: str, unit: str | None, unknown: int, groups: Any, left_out: int) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "unit": unit,
        "unknown": unknown,
        "left_out": left_out,
        "groups": groups,
    }


def _group(label: str, chosen: Any, errors: Any, lengths: Any, rate: str) -> dict[str, Any]:
    units = Units(errors[chosen], lengths[chosen])
    words = int(units.lengths.sum())
    known = words > 0
    return {
        "label": label,
        "utterances": len(units.errors),
        "words": words,
        rate: units.rate() if known else None,
        "interval": list(interval_of(units)) if known else None,
        "interval_by": "utterance",
        "worse": False,
        "small": len(units.errors) < SMALL_UTTERANCES or words < SMALL_WORDS,
    }


def _range_label(low: float | None, high: float | None, unit: str) -> str:
    write: Callable[[float], str] = "{:g}".format
    if low is None and high is not None:
        return f"below {write(high)} {unit}"
    if high is None and low is not None:
        return f"{write(low)} {unit} and more"
    assert low is not None and high is not None
    return f"{write(low)} to {write(high)} {unit}"
