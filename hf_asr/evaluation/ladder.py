"""The ladder's comparison: what each row scored, how sure that is, and which differences are ties."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_asr.errors import UserError
from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.intervals import speakers_for_test
from hf_asr.evaluation.report import PREDICTIONS, read_results
from hf_asr.evaluation.spread import LEVEL, Estimate, Floats, drawn_sums, estimate

HIGHER_IS_BETTER = ("accuracy", "macro_f1", "r2")
# What is summed over clips; macro F1 and R2 are no sums, so runs are compared by these.
METRICS = ("wer", "cer", "accuracy", "rmse")


@dataclass(frozen=True)
class RunScores:
    """What one run scored, clip by clip.

    Attributes:
        metric: ``wer``, ``cer``, ``accuracy`` or ``rmse``.
        ids: Ids of the clips.
        references: What they are compared with, as it was compared.
        speakers: Speaker of each clip; empty where unknown.
        numerators: Errors, hits or squared errors of each clip, shape (clips,).
        denominators: Reference words or characters, or 1, of each clip, shape (clips,).
    """

    metric: str
    ids: tuple[str, ...]
    references: tuple[str, ...]
    speakers: tuple[str, ...]
    numerators: Floats
    denominators: Floats

    @property
    def value(self) -> float:
        """The metric over all clips."""
        return float(ratio(self.metric, self.numerators.sum(), self.denominators.sum()))

    def same_clips(self, other: RunScores) -> bool:
        """Tell whether both scored the same clips against the same references."""
        return (self.metric, self.ids, self.references) == (other.metric, other.ids, other.references)


@dataclass(frozen=True)
class Comparison:
    """A row against another, seed by seed on the same clips.

    Attributes:
        against: Name of the other row.
        difference: This row minus the other one, at the level that the number of comparisons asks for.
        verdict: ``better``, ``worse``, ``tie``, or why nothing can be said.
    """

    against: str
    difference: Estimate | None
    verdict: str


def ratio(metric: str, numerators: Any, denominators: Any) -> Any:
    """Return the metric of sums; nan where nothing was drawn that counts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        quotient = np.asarray(numerators, np.float64) / np.asarray(denominators, np.float64)
    return np.sqrt(quotient) if metric == "rmse" else quotient


def read_scores(folder: str | Path, metric: str | None = None) -> RunScores:
    """Read the scores of a results folder (``RUN/test``).

    Args:
        folder: Folder with test_results.json and test_predictions.csv.
        metric: One of :data:`METRICS`; by default the first of them that the results have.

    Raises:
        UserError: A file is missing, or the results have no such metric.
    """
    results = read_results(folder)
    chosen = metric or next((name for name in METRICS if name in results), None)
    if chosen not in METRICS or chosen not in results:
        raise UserError(
            f"expected one of {', '.join(METRICS)} in {folder}'s results, found {metric or 'none'}. Score it again."
        )
    rows = read_table(Path(folder))
    reference = "reference_normalized" if chosen in ("wer", "cer") else "reference"
    numerators, denominators = _sums(chosen, rows)
    return RunScores(
        chosen,
        tuple(row["id"] for row in rows),
        tuple(row[reference] for row in rows),
        tuple(row.get("speaker") or "" for row in rows),
        numerators,
        denominators,
    )


def units_of(scores: RunScores) -> tuple[Any, str]:
    """Return the unit that each clip belongs to, shape (clips,), and whether that is a speaker or an utterance."""
    if speakers_for_test(scores.speakers) is None:
        return np.arange(len(scores.ids)), "utterance"
    return np.unique(np.asarray(scores.speakers), return_inverse=True)[1], "speaker"


def rate_of(runs: Sequence[RunScores], level: float = LEVEL, seed: int = 42) -> Estimate:
    """Return a row's metric, the mean over its seeds, with its interval.

    Args:
        runs: One of each seed, on the same clips.
        level: Level of the interval.
        seed: Equal seeds give equal numbers.
    """
    resampled = _resampled(runs, seed)
    values = np.array([run.value for run in runs])
    return estimate(values, resampled.mean(1), len(set(units_of(runs[0])[0].tolist())), level)


def difference_of(
    before: Sequence[RunScores], after: Sequence[RunScores], level: float = LEVEL, seed: int = 42
) -> Estimate:
    """Return ``after`` minus ``before``, paired by seed and drawn on the same units.

    Args:
        before: Runs of the first row, one a seed.
        after: Runs of the second row, of the same seeds in the same order and on the same clips.
        level: Level of the interval.
        seed: Equal seeds give equal numbers.
    """
    assert len(before) == len(after) and all(one.same_clips(two) for one, two in zip(before, after, strict=True))
    resampled = (_resampled(after, seed) - _resampled(before, seed)).mean(1)
    values = np.array([two.value - one.value for one, two in zip(before, after, strict=True)])
    return estimate(values, resampled, len(set(units_of(before[0])[0].tolist())), level)


def compare(
    against: str, before: Mapping[int, RunScores], after: Mapping[int, RunScores], comparisons: int, seed: int = 42
) -> Comparison:
    """Compare two rows on the seeds that both have, at a level corrected for the number of comparisons (Bonferroni).

    Args:
        against: Name of the row that ``before`` is.
        before: Seed to scores.
        after: Seed to scores.
        comparisons: How many comparisons the table makes.
        seed: Equal seeds give equal numbers.
    """
    seeds = [seed for seed in after if seed in before]
    if not seeds:
        return Comparison(against, None, "no seed that both have finished")
    pairs = [(before[seed], after[seed]) for seed in seeds]
    if not all(one.same_clips(two) for one, two in pairs):
        return Comparison(against, None, "other test clips or references: not comparable")
    level = 1 - (1 - LEVEL) / max(1, comparisons)
    found = difference_of([one for one, _ in pairs], [two for _, two in pairs], level, seed)
    return Comparison(against, found, verdict(pairs[0][0].metric, found))


def verdict(metric: str, difference: Estimate) -> str:
    """Say whether a difference is one: an interval that holds 0 is a tie."""
    if difference.low <= 0 <= difference.high or not math.isfinite(difference.value):
        return "tie"
    return "better" if (difference.value > 0) == (metric in HIGHER_IS_BETTER) else "worse"


def read_table(folder: Path) -> list[dict[str, str]]:
    """Read test_predictions.csv with whatever columns it has, as text.

    Raises:
        UserError: There is none.
    """
    path = folder / PREDICTIONS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"expected {PREDICTIONS} in {folder}, found none; run it again") from None


def _sums(metric: str, rows: Sequence[Mapping[str, str]]) -> tuple[Floats, Floats]:
    """Return what is summed over the clips above and below the line."""
    ones = np.ones(len(rows))
    if metric == "wer":
        kinds = ("substitutions", "deletions", "insertions", "hits")
        substitutions, deletions, insertions, hits = (np.array([float(row[name]) for row in rows]) for name in kinds)
        return substitutions + deletions + insertions, hits + substitutions + deletions
    if metric == "cer":
        references = [row["reference_normalized"] for row in rows]
        characters = count_errors(
            references, [row["hypothesis_normalized"] for row in rows], normalizer="none"
        ).characters
        return characters.errors.astype(np.float64), characters.reference_length.astype(np.float64)
    if metric == "accuracy":
        return np.array([float(row["reference"] == row["hypothesis"]) for row in rows]), ones
    return np.array([(float(row["hypothesis"]) - float(row["reference"])) ** 2 for row in rows]), ones


def _resampled(runs: Sequence[RunScores], seed: int) -> Floats:
    """Return the metric of every run in each bootstrap sample of the units, shape (samples, runs)."""
    units, _ = units_of(runs[0])
    columns = [column for run in runs for column in (run.numerators, run.denominators)]
    summed = np.stack([np.bincount(units, column).astype(np.float64) for column in columns], axis=1)
    sums = drawn_sums(summed, seed=seed)
    return np.asarray(ratio(runs[0].metric, sums[:, 0::2], sums[:, 1::2]))
