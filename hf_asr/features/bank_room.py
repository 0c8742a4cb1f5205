"""What a bank takes on disk, worked out before it is written, and whether there is room for it."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from hf_asr.config.arguments import FeatureArguments
from hf_asr.errors import UserError
from hf_asr.features.cache import PreparedSplit, cache_dir
from hf_asr.utterance import Seconds

logger = logging.getLogger(__name__)

BYTES_OF_A_NUMBER = 2
BYTES_OF_A_ROW = 400
GB = 1e9


@dataclass(frozen=True)
class BankShape:
    """What a second of audio takes.

    Attributes:
        layers: K.
        width: D.
        states_per_second: S of one second.
        states_per_clip: What a clip takes beside its seconds: rounding up, or a whole window.
        smaller: What the user can set to have fewer numbers.
    """

    layers: int
    width: int
    states_per_second: float
    states_per_clip: float = 1.0
    smaller: str = "set head.layers=last"

    def state_bytes(self, seconds: Seconds, rows: int) -> int:
        """Return the bytes of the states of so much audio."""
        states = math.ceil(seconds * self.states_per_second + rows * self.states_per_clip)
        return states * self.layers * self.width * BYTES_OF_A_NUMBER

    def forecast(self, seconds: Seconds, rows: int) -> int:
        """Return the bytes that so much audio takes."""
        return self.state_bytes(seconds, rows) + rows * BYTES_OF_A_ROW


def seconds_of(prepared: PreparedSplit) -> Seconds:
    """Return the length of a split's clips together."""
    return math.fsum(seconds for seconds in prepared.column("duration") if seconds is not None)


def check_room(splits: Sequence[PreparedSplit], shape: BankShape, features: FeatureArguments, written: int = 0) -> None:
    """See that banks of these splits fit.

    Raises:
        UserError: They take more than ``features.bank_max_gb``, or than the disk has.
    """
    problem = why_no_room(splits, shape, features, written)
    if problem:
        raise UserError(f"features.bank: {problem}")


def why_no_room(splits: Sequence[PreparedSplit], shape: BankShape, features: FeatureArguments, written: int = 0) -> str:
    """Return why banks of these splits do not fit, as "expected ..., found ...; what to do"; empty when they do."""
    needed = sum(shape.forecast(seconds_of(split), len(split.rows)) for split in splits)
    return why_too_large(", ".join(split.name for split in splits), needed, written, shape, features)


def why_too_large(names: str, needed: int, written: int, shape: BankShape, features: FeatureArguments) -> str:
    """Return why so many bytes do not fit; empty when they do.

    Args:
        names: Of the splits, for the log.
        needed: Bytes of whole banks.
        written: Bytes of them that are there already.
        shape: What they hold.
        features: The ``features`` section.
    """
    place = next(path for path in (cache_dir(features), *cache_dir(features).absolute().parents) if path.exists())
    free, most = shutil.disk_usage(place).free, features.bank_max_gb
    sizes = (needed / GB, written / GB, free / GB)
    logger.info(
        "bank of %s: %.3f GB needed, %.3f GB there, %.2f GB free, features.bank_max_gb is %g", names, *sizes, most
    )
    if needed > most * GB:
        return (
            f"expected at most features.bank_max_gb={most:g} GB of states, found {needed / GB:.2f} GB "
            f"({shape.layers} x {shape.width} numbers a state). Raise it, {shape.smaller}, or features.bank=off."
        )
    if needed - written > free:
        return (
            f"expected {(needed - written) / GB:.2f} GB free in {place}, found {free / GB:.2f} GB. Set "
            "features.cache_dir to another disk, or features.bank=off."
        )
    return ""


@dataclass(frozen=True)
class BankForecast:
    """What the bank of a run takes, before it is built.

    Attributes:
        splits: Names of the splits that read one.
        bytes: Of the whole bank.
        written: Bytes of it that an earlier run has left.
        problem: Why it does not fit, and what to do; empty when it does.
    """

    splits: tuple[str, ...]
    bytes: int
    written: int
    problem: str

    @classmethod
    def of(
        cls, splits: Sequence[str], needed: int, written: int, shape: BankShape, features: FeatureArguments
    ) -> BankForecast:
        """Compare the bytes with ``features.bank_max_gb`` and with what is free on the disk."""
        problem = why_too_large(" and ".join(splits), needed, written, shape, features)
        return cls(tuple(splits), needed, written, problem)

    def row(self) -> tuple[str, str]:
        """Return the line of a table that is 80 wide."""
        there = f", {_size(self.written)} there" if self.written else ""
        room = "no room" if self.problem else "fits"
        return f"disk: bank ({', '.join(self.splits)})", f"{_size(self.bytes)}{there}: {room}"


def _size(number: int) -> str:
    return f"{number / GB:.1f} GB" if number >= GB else f"{number / 1e6:.1f} MB"


def check_fits(bank: BankForecast | None, wanted: str) -> None:
    """See that a bank fits where it is asked for.

    Args:
        bank: What it will take; None where none is written.
        wanted: ``features.bank``; with ``auto`` a run goes without one that does not fit.

    Raises:
        UserError: It does not fit, and it is ``on``.
    """
    if bank is not None and bank.problem and wanted == "on":
        raise UserError(f"features.bank: {bank.problem}")
