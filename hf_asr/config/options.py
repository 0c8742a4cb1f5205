"""How a field of a section is declared: its default, its one sentence of help, and what it may hold."""

from __future__ import annotations

import math
from dataclasses import MISSING, field
from typing import Any, NamedTuple


class Bounds(NamedTuple):
    """The range of a number.

    Attributes:
        low: Smallest value; None for no limit.
        high: Largest value; None for no limit.
        above: ``low`` itself is outside.
        below: ``high`` itself is outside.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        assert isinstance(value, int | float)
        too_low = self.low is not None and (value <= self.low if self.above else value < self.low)
        too_high = self.high is not None and (value >= self.high if self.below else value > self.high)
        return not (too_low or too_high)

    def __str__(self) -> str:
        low = None if self.low is None else f"{'more than' if self.above else 'at least'} {plain(self.low)}"
        high = None if self.high is None else f"{'less than' if self.below else 'at most'} {plain(self.high)}"
        return " and ".join(part for part in (low, high) if part)


def plain(number: float) -> str:
    """Write a number without an exponent or a trailing .0 where it is whole."""
    if math.isinf(number):
        return "infinity"
    return str(int(number)) if float(number).is_integer() else str(number)


POSITIVE = Bounds(0, above=True)
POSITIVE_FINITE = Bounds(0, math.inf, above=True, below=True)
AT_LEAST_0 = Bounds(0)
FINITE = Bounds(0, math.inf, below=True)
AT_LEAST_1 = Bounds(1)
SHARE = Bounds(0, 1, below=True)


def option(default: Any, help: str, **rules: Any) -> Any:
    """Declare a field with an immutable default; mutable ones use ``dataclasses.field`` with the same metadata.

    Args:
        default: Its value.
        help: One sentence for docs/configuration.md.
        rules: ``choices``, ``bounds``, or ``check``, the name of a check in :mod:`hf_asr.config.checks`.
    """
    return field(default=default, metadata={"help": help, **rules})


def required(help: str, **rules: Any) -> Any:
    """Declare a field that a configuration must give."""
    return field(default=MISSING, metadata={"help": help, **rules})


def group(transform: type[Any], help: str) -> Any:
    """Declare a transform: a mapping of the fields of ``transform``, empty for "not used"."""
    return field(default_factory=dict, metadata={"help": help, "transform": transform})


def pair(low: float, high: float, help: str, bounds: Bounds | None = None) -> Any:
    """Declare a range: a value is drawn evenly between both ends."""
    return field(default_factory=lambda: [low, high], metadata={"help": help, "bounds": bounds, "pair": True})
