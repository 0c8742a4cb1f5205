"""A scored set token by token: what every part of the error analysis goes through."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hf_asr.evaluation.counts import ErrorCounts, count_errors, split_characters, split_words
from hf_asr.evaluation.edits import DELETION, INSERTION, EditTable


class Edit(NamedTuple):
    """One wrong token.

    Attributes:
        row: Number of the utterance.
        kind: ``SUBSTITUTION``, ``DELETION`` or ``INSERTION``.
        reference: What was said; empty for an insertion.
        hypothesis: What was recognised; empty for a deletion.
        place: Its number in the reference; of an insertion that of the token behind it.
        other: Its number in the hypothesis; of a deletion that of the token behind it.
    """

    row: int
    kind: int
    reference: str
    hypothesis: str
    place: int
    other: int


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """A scored set with its tokens, each split once.

    Attributes:
        counts: Error counts of the set.
        references: What was said, as the corpus has it.
        hypotheses: What was recognised, as the model wrote it.
    """

    counts: ErrorCounts
    references: Sequence[str]
    hypotheses: Sequence[str]

    @functools.cached_property
    def raw(self) -> ScoredTexts:
        """The same set with nothing normalised."""
        counted = count_errors(self.references, self.hypotheses, normalizer="none", ids=self.counts.ids)
        return ScoredTexts(counted, self.references, self.hypotheses)

    @functools.cached_property
    def words(self) -> tuple[list[list[str]], list[list[str]]]:
        """Normalised words of the references and of the hypotheses."""
        return split_words(self.counts.reference_normalized), split_words(self.counts.hypothesis_normalized)

    @functools.cached_property
    def characters(self) -> tuple[list[list[str]], list[list[str]]]:
        """Normalised characters of both."""
        return split_characters(self.counts.reference_normalized), split_characters(self.counts.hypothesis_normalized)

    @functools.cached_property
    def word_edits(self) -> list[Edit]:
        """Every wrong word, by utterance and from left to right."""
        return list(edits_of(self.counts.word_edits, *self.words))

    def example(self, row: int) -> dict[str, str]:
        """Return an utterance as examples show it."""
        texts = self.counts.reference_normalized[row], self.counts.hypothesis_normalized[row]
        return {"id": self.counts.ids[row], "reference": texts[0], "hypothesis": texts[1]}


def score_texts(references: Sequence[str], hypotheses: Sequence[str], normalizer: str) -> ScoredTexts:
    """Return a set scored after a text pipeline."""
    return ScoredTexts(count_errors(references, hypotheses, normalizer=normalizer), references, hypotheses)


def edits_of(table: EditTable, references: Sequence[list[str]], hypotheses: Sequence[list[str]]) -> Iterator[Edit]:
    """Yield the wrong tokens of a table, token by token.

    Args:
        table: Stretches that differ.
        references: Tokens of each reference.
        hypotheses: Tokens of each hypothesis.
    """
    for row, kind, start, end, other, other_end in zip(*(c.tolist() for c in table.columns()), strict=True):
        said, heard = references[row], hypotheses[row]
        if kind == DELETION:
            yield from (Edit(row, kind, said[place], "", place, other) for place in range(start, end))
        elif kind == INSERTION:
            yield from (Edit(row, kind, "", heard[place], start, place) for place in range(other, other_end))
        else:
            shift = other - start
            places = range(start, end)
            yield from (Edit(row, kind, said[place], heard[place + shift], place, place + shift) for place in places)
