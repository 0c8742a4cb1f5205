"""Rates by groups of clips, with intervals; which groups are worse than the rest; the worst speakers."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_asr.errors import UserError
from hf_asr.evaluation.columns import UNKNOWN, Clips, Grouping, groupings
from hf_asr.evaluation.counts import ErrorCounts
from hf_asr.evaluation.edits import EditColumns
from hf_asr.evaluation.intervals import MIN_SPEAKERS_FOR_TEST, Rate, Units, interval_of
from hf_asr.evaluation.significance import against_the_rest, holm

# Below either a group is shown, marked, and not tested.
FEWEST_UTTERANCES = 30
FEWEST_WORDS = 100
MOST_GROUPS = 50
WORST_SPEAKERS = 10
SIGNIFICANT = 0.05

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ScoredSet:
    """A scored set as slices see it.

    Attributes:
        counts: Error counts.
        clips: What is known of its utterances.
        rate: The rate that intervals and tests are of.
        seed: Seed of the intervals.
    """

    counts: ErrorCounts
    clips: Clips
    rate: Rate
    seed: int

    @property
    def edits(self) -> EditColumns:
        """Counts of the tokens that ``rate`` is about."""
        return {"wer": self.counts.words, "cer": self.counts.characters}[self.rate]

    @functools.cached_property
    def speakers(self) -> tuple[list[str], Rows]:
        """The speakers' names, the empty one among them, and the number of each utterance's."""
        names, numbers = np.unique(np.array(self.clips.speakers, dtype=object), return_inverse=True)
        return list(map(str, names)), numbers.astype(np.int64)

    def units(self, rows: Rows) -> Rows | None:
        """Return each utterance's speaker where these rows have enough of them for a test; None draws utterances."""
        names, numbers = self.speakers
        few = len(np.unique(numbers[rows])) < MIN_SPEAKERS_FOR_TEST
        return None if few or "" in names else numbers


def slice_all(scored: ScoredSet, wanted: Sequence[Any]) -> dict[str, Any]:
    """Return ``slices``, ``worse_slices`` and ``tested_slices`` of test_detailed_analysis.json.

    Args:
        scored: The set.
        wanted: ``evaluation.slices``.

    Raises:
        UserError: A column that was asked for is missing.
    """
    slices = [_slice(scored, grouping) for grouping in groupings(wanted, scored.counts, scored.clips)]
    tested = [(part, one) for part in slices for one in part["groups"] if one["p_value"] is not None]
    for (_, one), adjusted in zip(tested, holm([one["p_value"] for _, one in tested]), strict=True):
        one["p_adjusted"], one["worse"] = adjusted, adjusted < SIGNIFICANT
    worse = [
        {"name": part["name"], "rate": one[scored.rate]}
        | {name: one[name] for name in ("label", "utterances", "difference", "p_adjusted")}
        for part, one in tested
        if one["worse"]
    ]
    worse.sort(key=lambda one: -one["difference"])
    return {"slices": slices, "worse_slices": worse, "tested_slices": len(tested)}


def worst_speakers(scored: ScoredSet) -> dict[str, Any] | None:
    """Return how many speakers there are and the ten worst; None where none is known.

    The order is by the lower end of Wilson's interval with words as independent trials: a speaker of three words that
    are all wrong is no worse than one of 3,000 of which half are.
    """
    names, codes = scored.speakers
    if not any(names):
        return None
    unknown = sum(not name for name in scored.clips.speakers)
    errors = np.bincount(codes, scored.edits.errors, len(names))
    lengths = np.bincount(codes, scored.edits.reference_length, len(names))
    bounds = [_wilson(*pair) if name else -1.0 for name, *pair in zip(names, errors, lengths, strict=True)]
    worst = [place for place in np.argsort(-np.array(bounds), kind="stable")[:WORST_SPEAKERS] if names[place]]
    rows = [_speaker(scored, names[place], np.flatnonzero(codes == place)) for place in worst]
    return {"number": sum(map(bool, names)), "unknown": unknown, "worst": rows}


def _speaker(scored: ScoredSet, name: str, rows: Rows) -> dict[str, Any]:
    kept = ("utterances", "words", "wer", "cer", "interval", "small")
    row = _sums(scored, rows) | _interval(scored, rows, None)
    return {"speaker": name, **{key: row[key] for key in kept}}


def _wilson(errors: float, lengths: float, z: float = 1.96) -> float:
    """Return the lower end of Wilson's interval of a share; more errors than words are as many."""
    if not lengths:
        return 0.0
    share = min(1.0, errors / lengths)
    middle, half = (
        share + z * z / (2 * lengths),
        z * math.sqrt(share * (1 - share) / lengths + (z / (2 * lengths)) ** 2),
    )
    return (middle - half) / (1 + z * z / lengths)


def _slice(scored: ScoredSet, grouping: Grouping) -> dict[str, Any]:
    shown = range(min(MOST_GROUPS, len(grouping.labels)))
    return {
        "name": grouping.name,
        "kind": grouping.kind,
        "unit": grouping.unit,
        "unknown": int((grouping.codes == UNKNOWN).sum()),
        "left_out": len(grouping.labels) - len(shown),
        "groups": [_group(scored, grouping, place) for place in shown if (grouping.codes == place).any()],
    }


def _group(scored: ScoredSet, grouping: Grouping, place: int) -> dict[str, Any]:
    value, low, high = grouping.limits[place]
    rows = np.flatnonzero(grouping.codes == place)
    units = scored.units(rows)
    return (
        {"label": grouping.labels[place], "value": value, "low": low, "high": high}
        | (sums := _sums(scored, rows))
        | _interval(scored, rows, units)
        | _test(scored, rows, units, sums["small"])
    )


def _sums(scored: ScoredSet, rows: Rows) -> dict[str, Any]:
    words, characters = scored.counts.words.subset(rows), scored.counts.characters.subset(rows)
    substitutions, deletions, insertions, hits = words.sums()
    number, length = len(rows), hits + substitutions + deletions
    return {
        "utterances": number,
        "words": length,
        "characters": int(characters.reference_length.sum()),
        "speakers": len({scored.clips.speakers[row] for row in rows} - {""}),
        "substitutions": substitutions,
        "deletions": deletions,
        "insertions": insertions,
        "hits": hits,
        "wer": words.error_rate() if length else None,
        "cer": characters.error_rate() if length else None,
        "ser": float(np.mean(words.errors > 0)),
        "small": number < FEWEST_UTTERANCES or length < FEWEST_WORDS,
    }


def _interval(scored: ScoredSet, rows: Rows, units: Rows | None) -> dict[str, Any]:
    by = "utterance" if units is None else "speaker"
    errors, lengths = (
        column[rows].astype(np.float64) for column in (scored.edits.errors, scored.edits.reference_length)
    )
    if not lengths.any():
        return {"interval": None, "interval_by": by}
    if units is not None:
        _, own = np.unique(units[rows], return_inverse=True)
        errors, lengths = (np.bincount(own, column).astype(np.float64) for column in (errors, lengths))
    return {"interval": list(interval_of(Units(errors, lengths), seed=scored.seed)), "interval_by": by}


def _test(scored: ScoredSet, rows: Rows, units: Rows | None, small: bool) -> dict[str, Any]:
    empty = {"difference": None, "difference_interval": None, "p_value": None, "p_adjusted": None, "worse": False}
    inside = np.zeros(len(scored.counts), bool)
    inside[rows] = True
    independent = np.arange(len(scored.counts)) if units is None else units
    columns = (scored.edits.errors.astype(np.float64), scored.edits.reference_length.astype(np.float64))
    found = against_the_rest(*columns, inside, independent)
    if found is None:
        return empty
    interval = None if found.low is None else [found.low, found.high]
    tested = {"p_value": None if small else found.p_value}
    return empty | {"difference": found.difference, "difference_interval": interval} | tested


def check_speakers(speakers: Sequence[str]) -> Sequence[str]:
    """Return the speakers where clips of at least two can be drawn.

    Raises:
        UserError: There are none, or one alone.
    """
    known = set(speakers) - {""}
    missing = sum(not name for name in speakers)
    if len(known) < 2 or missing:
        found = f"{len(known)} speaker" + ("s" if len(known) != 1 else "")
        rest = f" and {missing} clips without one" if missing else ""
        raise UserError(
            f"by speaker: expected a speaker for every clip and at least two of them, found {found}{rest}; "
            "go by utterance"
        )
    return speakers
