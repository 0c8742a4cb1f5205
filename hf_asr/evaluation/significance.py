"""Is a group of clips really worse, and do two systems really differ: tests, and the correction for many of them.

Sources: jackknife over clusters: Miller, "The jackknife: a review", Biometrika 61 (1974), and, as CR3, Bell and
McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage samples", Survey Methodology 28
(2002); Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6 (1979);
matched-pairs sentence-segment word error test (MAPSSWE): Gillick and Cox, "Some statistical issues in the comparison of
speech recognition algorithms", ICASSP 1989; its segments: Pallett, Fisher and Fiscus, ICASSP 1990.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hf_asr.evaluation.counts import ErrorCounts
from hf_asr.evaluation.edits import INSERTION, EditTable
from hf_asr.evaluation.student import student_quantile, student_tail

Floats = NDArray[np.float64]

# Words that both systems have right on either side of a segment of MAPSSWE.
BUFFER = 2


@dataclass(frozen=True, slots=True)
class GroupDifference:
    """A group's rate against that of all other clips.

    Attributes:
        difference: The group's rate minus that of the rest.
        low: Lower end of its 95 % interval; None where one side is a single unit, which shows no spread.
        high: Upper end.
        p_value: One-sided: how often a group that is no worse looks this much worse.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float


def against_the_rest(
    errors: Floats, lengths: Floats, inside: NDArray[np.bool_], units: NDArray[np.int64]
) -> GroupDifference | None:
    """Test whether a group is worse than all other clips; None where one side has no reference token.

    The standard error is the jackknife's, leaving out one unit at a time, so a speaker with clips on both sides counts
    once. Student's t has the group's effective number of units, less one, as its degrees of freedom.

    Args:
        errors: Errors of each clip.
        lengths: Reference tokens of each clip.
        inside: Which clips are in the group.
        units: What is independent: the number of each clip's speaker, or of the clip itself.
    """
    number = int(units.max()) + 1
    group, rest = (_influence(errors[rows], lengths[rows], units[rows], number) for rows in (inside, ~inside))
    if group is None or rest is None:
        return None
    (rate, influence, effective), (other_rate, other_influence, others) = group, rest
    difference = rate - other_rate
    if min(effective, others) <= 1:
        return GroupDifference(difference, None, None, 1.0)
    spread = math.sqrt(float(np.square(influence - other_influence).sum()) * (number - 1) / number)
    if spread == 0:
        return GroupDifference(difference, difference, difference, float(difference <= 0))
    freedom = round(effective - 1, 1) or 0.1
    half = student_quantile(0.975, freedom) * spread
    return GroupDifference(difference, difference - half, difference + half, student_tail(difference / spread, freedom))


def _influence(
    errors: Floats, lengths: Floats, units: NDArray[np.int64], number: int
) -> tuple[float, Floats, float] | None:
    """Return a rate, how far it moves without each unit, and the effective number of units; None without a token."""
    total = float(lengths.sum())
    if not total:
        return None
    rate = float(errors.sum()) / total
    own = np.bincount(units, lengths, number)
    residual = np.bincount(units, errors - rate * lengths, number)
    moved = np.divide(residual, total - own, out=np.zeros(number), where=own < total)
    return rate, moved, total**2 / float(np.square(own).sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for how many there are: below 0.05 keeps one false alarm at 5 % over all."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """The result of MAPSSWE.

    Attributes:
        segments: Stretches of speech in which at least one system errs.
        mean: Mean over them of the second system's errors minus the first one's.
        z: The mean over its standard error; 0 where nothing differs.
        p_value: Two-sided, of the normal distribution: trust it from about 50 segments on. Where all segments differ
            alike, which leaves no standard error, it is the sign test's, and z is what the normal distribution has
            for it.
    """

    segments: int
    mean: float
    z: float
    p_value: float


def matched_pairs(before: ErrorCounts, after: ErrorCounts) -> MatchedPairs:
    """Test two systems on the same clips over segments that are independent of each other (MAPSSWE).

    A segment ends where both systems have at least two words right in a row, or with the utterance.
    """
    first, second = _marks(before), _marks(after)
    places = np.unique(np.concatenate([first[0], second[0]]))
    if not len(places):
        return MatchedPairs(0, 0.0, 0.0, 1.0)
    # Places are numbered through all utterances, with a gap between two of them, so that no segment joins two.
    new = np.concatenate([[True], np.diff(places) > BUFFER])
    segment = np.cumsum(new) - 1
    sums = [
        np.bincount(segment[np.searchsorted(places, at)], errors, segment[-1] + 1) for at, errors in (first, second)
    ]
    differences = sums[1] - sums[0]
    mean, number = float(differences.mean()), len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(number) if number > 1 else 0.0
    if error:
        return MatchedPairs(number, mean, mean / error, 2 * NormalDist().cdf(-abs(mean / error)))
    p_value = max(0.5 ** (number - 1), sys.float_info.min) if mean else 1.0
    z = math.copysign(NormalDist().inv_cdf(p_value / 2), mean) if p_value < 1 else 0.0
    return MatchedPairs(number, mean, z, p_value)


def _marks(counts: ErrorCounts) -> tuple[NDArray[np.int64], Floats]:
    """Return the places of a set at which a system errs, and how many errors are there.

    A place is a reference word; what is inserted stands at the word behind it, or one behind the last.
    """
    table, sizes = counts.word_edits, counts.words.reference_length
    starts = np.concatenate([[0], np.cumsum(sizes + BUFFER + 2)])[:-1]
    inserted = table.kinds == INSERTION
    places, errors = _spread_out(table, ~inserted, starts)
    at = starts[table.rows[inserted]] + table.reference_starts[inserted]
    return np.concatenate([places, at]), np.concatenate([errors, table.lengths[inserted].astype(np.float64)])


def _spread_out(
    table: EditTable, chosen: NDArray[np.bool_], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:
    """Return one place a wrong reference word."""
    lengths = table.lengths[chosen]
    first = starts[table.rows[chosen]] + table.reference_starts[chosen]
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.repeat(first, lengths) + inside, np.ones(int(lengths.sum()))
