"""From numbers to places on a chart, and to the words that stand beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

Format = Callable[[float], str]


def per_cent(rate: float) -> str:
    """Return a fraction as a person reads it."""
    return f"{100 * rate:.1f} %"


def plain(value: float) -> str:
    """Return a number with as many digits as are worth reading."""
    if math.isfinite(value) and (value == int(value) or abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 clip, 2 clips."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short_name(name: str, most: int = 24) -> str:
    """Return a name that fits beside a chart: Common Voice's speakers have 128 letters, the first ten tell them."""
    return name if len(name) <= most else f"{name[:10]}…{name[-4:]}"


def without_place(text: str) -> str:
    """Return a text that is a local path cut to its last part, as some ids are: a page is passed on."""
    return PurePath(text).name if PurePath(text).is_absolute() else text


@dataclass(frozen=True, slots=True)
class Scale:
    """From a value to a place between 0 and 1.

    Attributes:
        low: Value at 0.
        high: Value at 1.
        ticks: Values that are written.
        log: Whether equal distances are equal factors.
    """

    low: float
    high: float
    ticks: Sequence[float] = field(default_factory=tuple)
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; outside of 0 to 1 where it lies outside."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        return ((math.log(value) if self.log else value) - low) / (high - low)


def make_scale(values: Sequence[float], *, zero: bool = False, log: bool = False, wanted: int = 5) -> Scale:
    """Return a scale with round ticks that holds all values.

    Args:
        values: What is to be shown; what is not finite is left out.
        zero: Whether it begins at 0 (or ends there).
        log: Whether it is logarithmic; values must then be above 0.
        wanted: About how many ticks.
    """
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not finite:
        return Scale(0.0, 1.0, (0.0, 1.0))
    low, high = min(finite), max(finite)
    if log:
        return _log_scale(low, high)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    step = _round_step((high - low) / wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [index * step for index in range(first, last + 1)]
    return Scale(ticks[0], ticks[-1], ticks)


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not below ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _log_scale(low: float, high: float) -> Scale:
    """Return a scale of powers of ten; of powers of two below a factor of 100, as batch sizes are."""
    base = 2.0 if high / low <= 100 else 10.0
    first, last = math.floor(math.log(low, base) + 1e-9), math.ceil(math.log(high, base) - 1e-9)
    last = max(last, first + 1)
    stride = max(1, (last - first) // 6)
    return Scale(base**first, base**last, [base**index for index in range(first, last + 1, stride)], True)
