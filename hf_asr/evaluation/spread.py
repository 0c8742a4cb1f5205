"""How sure a number is that comes from several trainings and one set of clips.

Two things would be otherwise in a repetition: the clips (or their speakers), and the training's seed. The standard
error of a mean over n seeds joins both: ``se^2 = se_clips^2 + s^2 / n``. ``se_clips`` is the bootstrap's standard
deviation of the mean over the seeds, all seeds on the same drawn units, times sqrt(U / (U - 1)) for U units;
``s`` is the standard deviation over the seeds. The interval is Student's, with the degrees of freedom of Welch and
Satterthwaite.

Source: Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021 (arXiv:2103.03098);
Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 2 (1946).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_asr.evaluation.student import student_quantile

Floats = NDArray[np.float64]

SAMPLES = 1000
LEVEL = 0.95
# Draws of one block; 4 million indices are 32 MB.
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds, with its interval.

    Attributes:
        value: The mean.
        low: Lower end.
        high: Upper end.
        se_clips: Standard error from the clips (or speakers).
        se_seeds: Standard error from the seeds; 0 for a single seed, of which nothing is known.
        level: Level of the interval.
    """

    value: float
    low: float
    high: float
    se_clips: float
    se_seeds: float
    level: float


def estimate(values: Floats, resampled: Floats, units: int, level: float = LEVEL) -> Estimate:
    """Return a mean over seeds with its interval.

    Args:
        values: The number of each seed, shape (seeds,).
        resampled: The mean over the seeds in each bootstrap sample of the units, shape (samples,).
        units: How many clips, or speakers, were drawn from.
        level: Level of the interval.
    """
    mean, number = float(values.mean()), len(values)
    few = math.sqrt(units / (units - 1)) if units > 1 else 1.0
    se_clips = float(np.nanstd(resampled)) * few
    se_seeds = float(values.std(ddof=1)) / math.sqrt(number) if number > 1 else 0.0
    error = math.hypot(se_clips, se_seeds)
    freedom = _freedom(((se_clips, units - 1), (se_seeds, number - 1)))
    half = student_quantile((1 + level) / 2, freedom) * error if error else 0.0
    return Estimate(mean, mean - half, mean + half, se_clips, se_seeds, level)


def _freedom(parts: tuple[tuple[float, int], ...]) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of variances, given (standard error, its freedom)."""
    total = sum(error**2 for error, _ in parts)
    share = sum(error**4 / freedom for error, freedom in parts if error and freedom > 0)
    return total**2 / share if share else 1.0


def drawn_sums(columns: Floats, samples: int = SAMPLES, seed: int = 42) -> Floats:
    """Return the columns' sums in each bootstrap sample of their rows.

    Args:
        columns: Numbers of each unit, shape (units, columns).
        samples: Bootstrap samples.
        seed: Equal seeds draw equal units.

    Returns:
        Shape (samples, columns).
    """
    generator, units = np.random.default_rng(seed), len(columns)
    rows, sums = max(1, _BLOCK // units), []
    for start in range(0, samples, rows):
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=min(rows, samples - start))
        sums.append(drawn @ columns)
    return np.concatenate(sums)
