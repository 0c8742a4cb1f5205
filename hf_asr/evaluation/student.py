"""Student's t: its quantiles and tails, for degrees of freedom that need not be whole.

With t = sqrt(freedom) tan(a) the density becomes cos(a) ** (freedom - 1), which is summed over a fine grid: within 1e-4
of the tables from one degree of freedom on.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_POINTS = 400_000
# From here on the normal distribution with Fisher's two correcting terms is as exact as the grid.
_MANY = 200.0


@functools.lru_cache(maxsize=1024)
def student_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t."""
    assert 0.5 <= probability < 1 and freedom > 0
    if freedom > _MANY:
        z = NormalDist().inv_cdf(probability)
        return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    angle, weight, half = _grid(freedom)
    place = np.interp(2 * probability - 1, weight / weight[-1], angle + half)
    return float(math.sqrt(freedom) * math.tan(place))


def student_tail(value: float, freedom: float) -> float:
    """Return the probability of a value above ``value``; 0.5 at 0."""
    assert freedom > 0
    if value < 0:
        return 1 - student_tail(-value, freedom)
    if freedom > _MANY:
        # Wallace's approximation, within 1e-4 at so many degrees of freedom.
        z = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(value**2 / freedom))
        return NormalDist().cdf(-z)
    angle, weight, half = _grid(freedom)
    above = 1 - np.interp(math.atan(value / math.sqrt(freedom)), angle + half, weight / weight[-1])
    return float(above) / 2


def _grid(freedom: float) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return angles, the summed density up to each, and half a step; half-way points never touch a right angle."""
    step = math.pi / 2 / _POINTS
    angle = (np.arange(_POINTS) + 0.5) * step
    return angle, np.cumsum(np.cos(angle) ** (freedom - 1)), step / 2
