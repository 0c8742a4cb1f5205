"""Word and character errors per utterance from one jiwer alignment; every rate is a thin reader of these columns."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np

from hf_asr.errors import UserError
from hf_asr.evaluation.edits import DELETION, INSERTION, SUBSTITUTION, Aligned, Column, EditColumns, EditTable, aligned
from hf_asr.evaluation.workers import in_blocks
from hf_asr.text import get_pipeline

# jiwer keeps an object for every stretch of an alignment: so many utterances at a time bound the memory.
BATCH = 1000
_KINDS = {"substitute": SUBSTITUTION, "delete": DELETION, "insert": INSERTION}


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
        word_edits: Where the words differ.
        character_edits: Where the characters do.
    """

    ids: tuple[str, ...]
    words: EditColumns
    characters: EditColumns
    reference_normalized: tuple[str, ...]
    hypothesis_normalized: tuple[str, ...]
    normalizer: str
    word_edits: EditTable
    character_edits: EditTable

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

    def ser(self) -> float:
        """Return the sentence error rate: the share of utterances with a word error; 0 of no utterance."""
        return float(np.mean(self.words.errors > 0)) if len(self) else 0.0

    def alignment(self, row: int, characters: bool = False) -> list[Aligned]:
        """Return the alignment of an utterance: what is right in one piece, errors word by word."""
        texts = self.reference_normalized[row], self.hypothesis_normalized[row]
        table, split = (self.character_edits, split_characters) if characters else (self.word_edits, split_words)
        own = table.take(slice(*np.searchsorted(table.rows, [row, row + 1]).tolist()))
        reference, hypothesis = split(texts)
        return list(aligned(own, reference, hypothesis, join="" if characters else " "))

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
            "num_empty_references": int((self.words.reference_length == 0).sum()),
        }

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
            self.word_edits.subset(rows, len(self)),
            self.character_edits.subset(rows, len(self)),
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
    check_texts(normalized_references, normalizer)
    (words, word_edits), (characters, character_edits) = _align(normalized_references, normalized_hypotheses)
    return ErrorCounts(
        names,
        words,
        characters,
        normalized_references,
        normalized_hypotheses,
        normalizer,
        word_edits,
        character_edits,
    )


def check_texts(references: Sequence[str], normalizer: str) -> None:
    """See that there is something to score.

    Args:
        references: Normalised references.
        normalizer: What they went through.

    Raises:
        UserError: There is none, or all are empty.
    """
    if not any(text.strip() for text in references):
        raise UserError(
            f"expected references with words in them, found {len(references)} references that are all empty after the "
            f"normalizer {normalizer}; a rate needs reference words: check the references, or choose another normalizer"
        )


def split_words(texts: Sequence[str]) -> list[list[str]]:
    """Return the words of each text that jiwer aligns: what stands between spaces."""
    return [list(words) for words in jiwer.wer_default(list(texts))] if texts else []


def split_characters(texts: Sequence[str]) -> list[list[str]]:
    """Return the characters of each text that jiwer aligns: code points, spaces inside included."""
    return [list(characters) for characters in jiwer.cer_default(list(texts))] if texts else []


# Two results are kept, the normalised texts' and the raw ones', so that every metric of a report reads the same ones.
@functools.lru_cache(maxsize=2)
def _align(
    references: tuple[str, ...], hypotheses: tuple[str, ...]
) -> tuple[tuple[EditColumns, EditTable], tuple[EditColumns, EditTable]]:
    """Align words and characters."""
    tables = [], []  # type: tuple[list[EditTable], list[EditTable]]
    lengths = [], []  # type: tuple[list[Column], list[Column]]
    first = 0
    for block in in_blocks(align_block, references, hypotheses):
        for kind, (table, sizes) in enumerate(block):
            tables[kind].append(table.take(slice(None), table.rows + first))
            lengths[kind].append(sizes)
        first += len(sizes)
    words, characters = (
        _read_only(EditTable.joined(parts), np.concatenate(sizes)) for parts, sizes in zip(tables, lengths, strict=True)
    )
    return words, characters


def _read_only(table: EditTable, lengths: Column) -> tuple[EditColumns, EditTable]:
    counts = table.counts(lengths)
    for column in (counts.substitutions, counts.deletions, counts.insertions, counts.hits, *table.columns()):
        column.flags.writeable = False
    return counts, table


def align_block(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[tuple[EditTable, Column], ...]:
    """Align some utterances; return, for words and for characters, the stretches and each reference's tokens."""
    return tuple(
        _align_tokens(process, split, references, hypotheses)
        for process, split in (
            (jiwer.process_words, split_words),
            (jiwer.process_characters, split_characters),
        )
    )


def _align_tokens(
    process: Any, split: Any, references: Sequence[str], hypotheses: Sequence[str]
) -> tuple[EditTable, Column]:
    """Align one kind of token; equal texts need no alignment, and in good results they are half of all."""
    lengths = np.zeros(len(references), np.int64)
    stretches: list[tuple[int, ...]] = []
    for start in range(0, len(references), BATCH):
        rows = range(start, min(start + BATCH, len(references)))
        equal = [row for row in rows if references[row] == hypotheses[row]]
        others = [row for row in rows if references[row] != hypotheses[row]]
        if equal:
            lengths[equal] = [len(tokens) for tokens in split([references[row] for row in equal])]
        if others:
            output = process([references[row] for row in others], [hypotheses[row] for row in others])
            lengths[others] = [len(tokens) for tokens in output.references]
            for row, chunks in zip(others, output.alignments, strict=True):
                stretches.extend(
                    (row, _KINDS[c.type], c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx)
                    for c in chunks
                    if c.type != "equal"
                )
    return EditTable.of(stretches), lengths
