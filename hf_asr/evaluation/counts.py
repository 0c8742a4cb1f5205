"""Word and character errors per utterance from one jiwer alignment; every rate is a thin reader of these columns."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray

from hf_asr.errors import UserError
from hf_asr.text import get_pipeline

Column = NDArray[np.int64]

# jiwer keeps an object for every stretch of an alignment: so many utterances at a time bound the memory.
BATCH = 1000


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
class ErrorCounts:
    """Everything a report needs to know about a scored set, one row an utterance.

    Rates are sums over the set divided by sums over the set, never averages of utterances. They are fractions, and
    above 1 where insertions abound.

    Attributes:
        ids: Ids of the utterances.
        words: Edit operations on words.
        characters: Edit operations on characters, spaces between words included.
        reference_normalized: References as they were aligned.
        hypothesis_normalized: Hypotheses as they were aligned.
        normalizer: Name of the text pipeline that both went through.
    """

    ids: tuple[str, ...]
    words: EditColumns
    characters: EditColumns
    reference_normalized: tuple[str, ...]
    hypothesis_normalized: tuple[str, ...]
    normalizer: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def substitutions(self) -> Column:
        """Words replaced by others, one number an utterance."""
        return self.words.substitutions

    @property
    def deletions(self) -> Column:
        """Reference words left out, one number an utterance."""
        return self.words.deletions

    @property
    def insertions(self) -> Column:
        """Words that no reference has, one number an utterance."""
        return self.words.insertions

    @property
    def hits(self) -> Column:
        """Words found again, one number an utterance."""
        return self.words.hits

    def wer(self) -> float:
        """Return the word error rate, (S + D + I) / (H + S + D)."""
        return self.words.error_rate()

    def cer(self) -> float:
        """Return the character error rate: the word error rate's formula over characters, spaces included."""
        return self.characters.error_rate()

    def mer(self) -> float:
        """Return the match error rate, (S + D + I) / (H + S + D + I): the share of matches that are wrong, at most 1.

        Source: Morris, Maier and Green, "From WER and RIL to MER and WIL", Interspeech 2004.
        """
        s, d, i, h = self.words.sums()
        return (s + d + i) / (h + s + d + i) if h + s + d + i else 0.0

    def wil(self) -> float:
        """Return the word information lost, 1 - (H / reference words) x (H / hypothesis words).

        Source: Morris, Maier and Green, "From WER and RIL to MER and WIL", Interspeech 2004.
        """
        s, d, i, h = self.words.sums()
        references, hypotheses = h + s + d, h + s + i
        if not references:
            return float(hypotheses > 0)
        return 1 - (h / references) * (h / hypotheses) if hypotheses else 1.0

    def totals(self) -> dict[str, int]:
        """Return the sums over words, with the numbers of utterances and reference words, for JSON."""
        s, d, i, h = self.words.sums()
        return {
            "substitutions": s,
            "deletions": d,
            "insertions": i,
            "hits": h,
            "num_utterances": len(self),
            "num_words": h + s + d,
        }

    def alignment(self, row: int, characters: bool = False) -> list[tuple[str, str | None, str | None]]:
        """Return a row's alignment: (kind, reference, hypothesis), kind ``=``, ``S``, ``D`` or ``I``.

        What is right stands together in one entry, errors one by one; a side without a word is None.
        """
        process = jiwer.process_characters if characters else jiwer.process_words
        done = process(self.reference_normalized[row], self.hypothesis_normalized[row])
        join = "" if characters else " "
        return list(_entries(done.alignments[0], done.references[0], done.hypotheses[0], join))

    def subset(self, mask: Any) -> ErrorCounts:
        """Return the utterances of a boolean mask or an index array, in that order."""
        rows = np.arange(len(self))[mask]
        return ErrorCounts(
            tuple(self.ids[row] for row in rows),
            self.words.subset(rows),
            self.characters.subset(rows),
            tuple(self.reference_normalized[row] for row in rows),
            tuple(self.hypothesis_normalized[row] for row in rows),
            self.normalizer,
        )


def count_errors(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    normalizer: str = "basic",
    ids: Sequence[str] | None = None,
) -> ErrorCounts:
    """Normalise both sides, align each utterance once and count.

    An empty reference is legal, each word of its hypothesis is then an insertion; a set of nothing but empty
    references has no rate.

    Args:
        references: What was said, one text an utterance.
        hypotheses: What was recognised, in the same order.
        normalizer: Name of a text pipeline; ``none`` aligns the texts as they are.
        ids: Ids of the utterances; their numbers from 0 when not given.

    Raises:
        UserError: The numbers of texts differ, there is none, all references are empty after normalising, or there is
            no such normaliser.
    """
    names = tuple(ids) if ids is not None else tuple(map(str, range(len(references))))
    if not len(references) == len(hypotheses) == len(names):
        raise UserError(
            f"expected as many hypotheses as references, found {len(references)} references and {len(hypotheses)} "
            f"hypotheses ({len(names)} ids); give one text an utterance, an empty one where nothing was recognised"
        )
    pipeline = get_pipeline(normalizer)
    normalized_references, normalized_hypotheses = tuple(map(pipeline, references)), tuple(map(pipeline, hypotheses))
    if not any(text.strip() for text in normalized_references):
        raise UserError(
            f"expected references with words in them, found {len(references)} references that are all empty after the "
            f"normalizer {normalizer}; a rate needs reference words: check the references, or choose another normalizer"
        )
    words, characters = _align(normalized_references, normalized_hypotheses)
    return ErrorCounts(names, words, characters, normalized_references, normalized_hypotheses, normalizer)


@functools.lru_cache(maxsize=1)
def _align(references: tuple[str, ...], hypotheses: tuple[str, ...]) -> tuple[EditColumns, EditColumns]:
    """Align words and characters; the last result is kept, so that every metric of a report reads the same one."""
    words = np.empty((4, len(references)), np.int64)
    characters = np.empty((4, len(references)), np.int64)
    for start in range(0, len(references), BATCH):
        rows = slice(start, start + BATCH)
        pair = list(references[rows]), list(hypotheses[rows])
        words[:, rows] = _count(jiwer.process_words(*pair).alignments)
        characters[:, rows] = _count(jiwer.process_characters(*pair).alignments)
    words.flags.writeable = characters.flags.writeable = False
    return EditColumns(*words), EditColumns(*characters)


def _entries(
    chunks: list[jiwer.AlignmentChunk], reference: list[str], hypothesis: list[str], join: str
) -> Iterator[tuple[str, str | None, str | None]]:
    for chunk in chunks:
        said = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "equal":
            yield "=", join.join(said), join.join(heard)
        else:
            kind = chunk.type[0].upper()
            yield from ((kind, one, other) for one, other in itertools.zip_longest(said, heard))


def _count(alignments: Iterable[list[jiwer.AlignmentChunk]]) -> NDArray[np.int64]:
    """Return substitutions, deletions, insertions and hits as rows, an utterance a column."""
    return np.array([_count_one(chunks) for chunks in alignments], np.int64).T


def _count_one(chunks: list[jiwer.AlignmentChunk]) -> tuple[int, int, int, int]:
    counts = {"substitute": 0, "delete": 0, "insert": 0, "equal": 0}
    for chunk in chunks:
        # An insertion spans no reference tokens, the others span as many as they concern.
        length = chunk.ref_end_idx - chunk.ref_start_idx or chunk.hyp_end_idx - chunk.hyp_start_idx
        counts[chunk.type] += length
    return counts["substitute"], counts["delete"], counts["insert"], counts["equal"]
