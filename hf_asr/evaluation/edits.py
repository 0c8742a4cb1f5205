"""What an alignment found, as columns: counts of each utterance, and the stretches in which both sides differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.int64]

# Kinds of stretches, as they stand in EditTable.kinds and in alignments that people read.
SUBSTITUTION, DELETION, INSERTION = 0, 1, 2
LETTERS = ("S", "D", "I")

# Kind ("=", "S", "D" or "I"), what the reference has there, what the hypothesis has; None for nothing.
Aligned = tuple[str, str | None, str | None]


@dataclass(frozen=True, slots=True, eq=False)
class EditColumns:
    """Edit operations of one kind of token, one row an utterance.

    Attributes:
        substitutions: Reference tokens replaced by others.
        deletions: Reference tokens without a counterpart.
        insertions: Hypothesis tokens without a counterpart.
        hits: Reference tokens found again.
    """

    substitutions: Column
    deletions: Column
    insertions: Column
    hits: Column

    @property
    def errors(self) -> Column:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> Column:
        """Tokens of each reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def hypothesis_length(self) -> Column:
        """Tokens of each hypothesis."""
        return self.hits + self.substitutions + self.insertions

    def sums(self) -> tuple[int, int, int, int]:
        """Return substitutions, deletions, insertions and hits of all rows."""
        columns = (self.substitutions, self.deletions, self.insertions, self.hits)
        return tuple(int(column.sum()) for column in columns)  # type: ignore[return-value]

    def error_rate(self) -> float:
        """Return (S + D + I) / (H + S + D); where no reference has a token, the insertions, as jiwer does."""
        s, d, i, h = self.sums()
        return (s + d + i) / (h + s + d) if h + s + d else float(i)

    def subset(self, rows: Any) -> EditColumns:
        """Return the rows of a mask or an index array."""
        return EditColumns(self.substitutions[rows], self.deletions[rows], self.insertions[rows], self.hits[rows])


@dataclass(frozen=True, slots=True, eq=False)
class EditTable:
    """Stretches of tokens in which reference and hypothesis differ, by utterance and from left to right.

    Attributes:
        rows: Number of the utterance.
        kinds: ``SUBSTITUTION`` (both stretches are equally long), ``DELETION`` or ``INSERTION``.
        reference_starts: First token of the reference's stretch.
        reference_ends: Token behind it; the start again for an insertion.
        hypothesis_starts: First token of the hypothesis's stretch.
        hypothesis_ends: Token behind it; the start again for a deletion.
    """

    rows: Column
    kinds: Column
    reference_starts: Column
    reference_ends: Column
    hypothesis_starts: Column
    hypothesis_ends: Column

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Column:
        """Tokens of each stretch, which is how many errors it counts."""
        return np.maximum(self.reference_ends - self.reference_starts, self.hypothesis_ends - self.hypothesis_starts)

    @classmethod
    def of(cls, stretches: Sequence[Sequence[int]]) -> EditTable:
        """Make a table of (row, kind, reference start and end, hypothesis start and end)."""
        columns = np.array(stretches, np.int64).reshape(-1, 6).T
        return cls(*(np.ascontiguousarray(column) for column in columns))

    @classmethod
    def joined(cls, tables: Sequence[EditTable]) -> EditTable:
        """Put tables behind one another."""
        columns = zip(*(table.columns() for table in tables), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def columns(self) -> tuple[Column, ...]:
        """Return the six columns, in their order."""
        places = (self.reference_starts, self.reference_ends, self.hypothesis_starts, self.hypothesis_ends)
        return (self.rows, self.kinds, *places)

    def take(self, stretches: Any, rows: Column | None = None) -> EditTable:
        """Return the stretches of a mask or an index array, their utterances numbered anew where ``rows`` is given."""
        taken = [column[stretches] for column in self.columns()]
        return EditTable(taken[0] if rows is None else rows, *taken[1:])

    def bounds(self, utterances: int) -> Column:
        """Return where each utterance's stretches begin, and behind the last one where they end."""
        return np.searchsorted(self.rows, np.arange(utterances + 1))

    def subset(self, rows: Column, utterances: int) -> EditTable:
        """Return the stretches of some utterances, numbered by their places in ``rows``."""
        bounds = self.bounds(utterances)
        numbers = bounds[rows + 1] - bounds[rows]
        first = np.repeat(bounds[rows] - np.cumsum(numbers) + numbers, numbers)
        return self.take(first + np.arange(len(first)), np.repeat(np.arange(len(rows)), numbers))

    def counts(self, reference_lengths: Column) -> EditColumns:
        """Return the counts of each utterance, given how many tokens its reference has."""
        utterances = len(reference_lengths)
        code = self.kinds * utterances + self.rows
        found = np.bincount(code, self.lengths, 3 * utterances).astype(np.int64).reshape(3, utterances)
        hits = reference_lengths - found[SUBSTITUTION] - found[DELETION]
        return EditColumns(found[SUBSTITUTION], found[DELETION], found[INSERTION], hits)


def aligned(table: EditTable, reference: Sequence[str], hypothesis: Sequence[str], join: str) -> Iterator[Aligned]:
    """Yield an utterance's alignment, what is right in one piece, errors token by token.

    Args:
        table: The stretches of this utterance alone.
        reference: Its tokens.
        hypothesis: Those recognised.
        join: What stands between tokens of one piece.
    """
    at = 0
    for _, kind, start, end, other_start, other_end in zip(*(c.tolist() for c in table.columns()), strict=True):
        if start > at:
            piece = join.join(reference[at:start])
            yield "=", piece, piece
        if kind == SUBSTITUTION:
            pairs = zip(reference[start:end], hypothesis[other_start:other_end], strict=True)
            yield from (("S", one, other) for one, other in pairs)
        elif kind == DELETION:
            yield from (("D", one, None) for one in reference[start:end])
        else:
            yield from (("I", None, other) for other in hypothesis[other_start:other_end])
        at = end
    if at < len(reference):
        piece = join.join(reference[at:])
        yield "=", piece, piece
