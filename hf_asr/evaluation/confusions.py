"""Which words and characters are mistaken for which, left out or put in, and what goes wrong at the ends of clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hf_asr.evaluation.edits import DELETION, INSERTION, LETTERS, SUBSTITUTION
from hf_asr.evaluation.texts import Edit, ScoredTexts, edits_of

MOST_CONFUSIONS = 50
MOST_EXAMPLES = 3
# Tokens shown on either side of an error.
WORDS_AROUND, CHARACTERS_AROUND = 4, 15
NAMES = {SUBSTITUTION: "substitutions", DELETION: "deletions", INSERTION: "insertions"}
_COLUMNS = {SUBSTITUTION: ("reference", "hypothesis"), DELETION: ("reference",), INSERTION: ("hypothesis",)}

Tokens = tuple[Sequence[list[str]], Sequence[list[str]]]


def confusions(texts: ScoredTexts) -> dict[str, Any]:
    """Return ``confusions``: the most frequent errors of words and of characters, with examples."""
    edits = edits_of(texts.counts.character_edits, *texts.characters)
    return {
        "words": _most_frequent(texts, texts.word_edits, texts.words, " ", WORDS_AROUND),
        "characters": _most_frequent(texts, edits, texts.characters, "", CHARACTERS_AROUND),
    }


def _most_frequent(
    texts: ScoredTexts, edits: Iterable[Edit], tokens: Tokens, join: str, around: int
) -> dict[str, list[dict[str, Any]]]:
    """Count errors by kind and tokens; the first utterances with each are its examples."""
    counted = {kind: Counter[tuple[str, str]]() for kind in NAMES}
    seen: dict[tuple[int, str, str], list[Edit]] = {}
    for edit in edits:
        counted[edit.kind][edit.reference, edit.hypothesis] += 1
        examples = seen.setdefault((edit.kind, edit.reference, edit.hypothesis), [])
        if len(examples) < MOST_EXAMPLES and (not examples or examples[-1].row != edit.row):
            examples.append(edit)
    return {
        name: [
            _row(kind, *pair, number) | {"examples": [_excerpt(texts, one, tokens, join, around) for one in found]}
            for pair, number in counted[kind].most_common(MOST_CONFUSIONS)
            for found in [seen[kind, *pair]]
        ]
        for kind, name in NAMES.items()
    }


def _row(kind: int, reference: str, hypothesis: str, number: int) -> dict[str, Any]:
    shown = {"reference": reference.replace(" ", "␣"), "hypothesis": hypothesis.replace(" ", "␣")}
    return {name: shown[name] for name in _COLUMNS[kind]} | {"count": number}


def _excerpt(texts: ScoredTexts, edit: Edit, tokens: Tokens, join: str, around: int) -> dict[str, str]:
    said, heard = tokens[0][edit.row], tokens[1][edit.row]
    cut = (_around(said, edit.place, join, around), _around(heard, edit.other, join, around))
    return {"id": texts.counts.ids[edit.row], "reference": cut[0], "hypothesis": cut[1]}


def _around(tokens: Sequence[str], place: int, join: str, around: int) -> str:
    first, last = max(0, place - around), min(len(tokens), place + around + 1)
    text = join.join(tokens[first:last])
    return ("… " if first else "") + text + (" …" if last < len(tokens) else "")


def edges(texts: ScoredTexts) -> dict[str, dict[str, int]]:
    """Return ``edges``: errors at the first and at the last word of a clip, or outside of them."""
    lengths = texts.counts.words.reference_length.tolist()
    first = [edit for edit in texts.word_edits if edit.place == 0]
    last = [edit for edit in texts.word_edits if edit.place >= lengths[edit.row] - (edit.kind != INSERTION)]
    return {"first": _by_kind(first), "last": _by_kind(last)}


def _by_kind(edits: Sequence[Edit]) -> dict[str, int]:
    kinds: Mapping[int, int] = Counter(edit.kind for edit in edits)
    named = {NAMES[kind]: kinds.get(kind, 0) for kind in (DELETION, INSERTION, SUBSTITUTION)}
    return named | {"utterances": len({edit.row for edit in edits})}


def worst_utterances(
    texts: ScoredTexts, durations: Sequence[float | None], speakers: Sequence[str], by_characters: bool, most: int
) -> list[dict[str, Any]]:
    """Return ``worst_utterances``: those with most errors, each with its alignment.

    Args:
        texts: The scored set.
        durations: Seconds of each utterance; None where unknown.
        speakers: Its speaker; empty where unknown.
        by_characters: Whether characters are counted and aligned in place of words.
        most: How many at most.
    """
    counts = texts.counts
    edits = counts.characters if by_characters else counts.words
    errors, lengths = edits.errors.tolist(), edits.reference_length.tolist()
    rows = sorted((row for row in range(len(counts)) if errors[row]), key=lambda row: (-errors[row], row))[:most]
    return [
        texts.example(row)
        | {"duration": durations[row], "speaker": speakers[row], "errors": errors[row], "words": lengths[row]}
        | {"rate": errors[row] / max(1, lengths[row])}
        | {"alignment": joined(counts.alignment(row, by_characters)) if by_characters else counts.alignment(row)}
        for row in rows
    ]


def joined(alignment: Iterable[tuple[str, str | None, str | None]]) -> list[tuple[str, str | None, str | None]]:
    """Join neighbours of one kind, so that wrong characters stand together."""
    whole: list[tuple[str, str | None, str | None]] = []
    for kind, one, other in alignment:
        if whole and whole[-1][0] == kind and kind in LETTERS:
            _, before, behind = whole.pop()
            one = None if one is None or before is None else before + one
            other = None if other is None or behind is None else behind + other
        whole.append((kind, one, other))
    return whole
