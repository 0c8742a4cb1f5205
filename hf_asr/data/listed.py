"""The sources of a split, each read once into a table of its clips on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import datasets

from hf_asr.data.resolve import Source
from hf_asr.data.row_table import table_of
from hf_asr.data.selection import CORPORA, FILTERS, select
from hf_asr.errors import UserError
from hf_asr.utterance import Drops, Utterance


def list_sources(
    sources: Sequence[Source], split: str, drops: Drops, *, most: int | None = None, headers: bool = True
) -> list[datasets.Dataset]:
    """Read sources into tables; ids are unique over all of them.

    Args:
        sources: From :func:`hf_asr.data.resolve.resolve`.
        split: ``train``, ``validation`` or ``test``.
        drops: Takes what is left out.
        most: Most clips of each.
        headers: Whether durations that a corpus does not tell are read from the clips' headers.

    Raises:
        UserError: Nothing of a source is left, or it cannot be read.
    """
    tables, taken = [], frozenset[str]()
    for source in sources:
        reading = _Reading(source, split, most, headers, taken)
        tables.append(table_of(reading))
        if not len(tables[-1]):
            raise _nothing_left(split, source, reading.drops)
        taken = frozenset(reading.taken)
        drops.merge(reading.drops)
    return tables


@dataclass
class _Reading:
    """Reads a source as often as it is called; ``drops`` and ``taken`` are those of the last time."""

    source: Source
    split: str
    most: int | None
    headers: bool
    before: frozenset[str]
    drops: Drops = field(default_factory=Drops)
    taken: set[str] = field(default_factory=set)

    def __call__(self) -> Iterator[Utterance]:
        self.drops, self.taken = Drops(), set(self.before)
        return select(self.source, self.split, self.drops, taken=self.taken, most=self.most, headers=self.headers)


def _nothing_left(split: str, source: Source, drops: Drops) -> UserError:
    """Say why a split is empty."""
    found = "; ".join(drops.lines(3)) or "it has no rows"
    what = (
        "Check the corpus, and data.min_seconds, data.max_seconds and data.filter_votes, which decide what is left out."
    )
    held_out = source.held_out
    is_divided = held_out.divides and not set(FILTERS) & set(drops.reasons)
    if is_divided and (places := sorted({held_out.place(utterance) for utterance in _all_sides(source)})):
        found = f"none of its {len(places)} {held_out.by}s on that side; the lowest stands at {places[0]:.3f}"
        what = (
            f"Test is what stands below {held_out.test:g}, validation below {held_out.test + held_out.validation:g}, "
            "train the rest. Change the shares in data.splits.held_out, set its by to id, or name a split instead."
        )
        if held_out.named:
            listed = ", ".join(name for name, _ in held_out.named)
            what = f"Listed speakers are {listed}; quote numbers with leading zeros. " + what
    read = f"{source.data.corpus} {' + '.join(source.splits)}"
    return UserError(f"{split}: expected clips in {read}, found none left: {found}. {what}")


def _all_sides(source: Source) -> Iterator[Utterance]:
    for split in source.splits:
        yield from CORPORA[source.data.corpus](source.data, split, Drops())
