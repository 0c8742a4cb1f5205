"""What normalising hides or mends: raw and normalised rates side by side, case, punctuation, numbers and names."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from hf_asr.evaluation.counts import split_words
from hf_asr.evaluation.edits import DELETION, INSERTION, SUBSTITUTION
from hf_asr.evaluation.texts import Edit, ScoredTexts
from hf_asr.text import get_pipeline

MOST_DIFFERENCES = 100
MOST_EXAMPLES = 20
MOST_MARKS = 12
PAIRS = ("case", "punctuation", "case_and_punctuation", "other")

_DIGIT = re.compile(r"\d")
# Behind these a capital says nothing: a sentence, or somebody's speech, begins.
_SENTENCE_ENDS = tuple(".!?…:;¿¡\"'»«„“”‘’([—–-")

Normalise = Callable[[str], str]


def compare_normalized(texts: ScoredTexts, raw: ScoredTexts) -> dict[str, Any]:
    """Return ``normalization``: both rates, and the raw words that normalising makes equal.

    Args:
        texts: The set as it was scored.
        raw: The same set with nothing normalised.
    """
    normalise = functools.lru_cache(maxsize=None)(get_pipeline(texts.counts.normalizer))
    pairs, first = _equal_pairs(raw, normalise)
    kinds = {pair: kind_of(*pair) for pair in pairs}
    totals = Counter[str]()
    for pair, number in pairs.items():
        totals[kinds[pair]] += number
    dropped = Counter(edit.kind for edit in raw.word_edits if _is_dropped(edit, normalise))
    differences = [
        {"reference": one, "hypothesis": other, "kind": kinds[one, other], "count": number}
        | {"id": raw.counts.ids[first[one, other]]}
        for (one, other), number in pairs.most_common(MOST_DIFFERENCES)
    ]
    return {
        "normalizer": texts.counts.normalizer,
        "wer": texts.counts.wer(),
        "raw_wer": raw.counts.wer(),
        "cer": texts.counts.cer(),
        "raw_cer": raw.counts.cer(),
        "pairs": {kind: totals[kind] for kind in PAIRS},
        "removed_words": {"reference": dropped[DELETION], "hypothesis": dropped[INSERTION]},
        "differences": differences,
    }


def _equal_pairs(raw: ScoredTexts, normalise: Normalise) -> tuple[Counter[tuple[str, str]], dict[tuple[str, str], int]]:
    """Count the pairs of different raw words that normalising makes equal, each with its first utterance."""
    pairs, first = Counter[tuple[str, str]](), dict[tuple[str, str], int]()
    for edit in raw.word_edits:
        pair = edit.reference, edit.hypothesis
        if edit.kind == SUBSTITUTION and normalise(pair[0]) == normalise(pair[1]) != "":
            pairs[pair] += 1
            first.setdefault(pair, edit.row)
    return pairs, first


def _is_dropped(edit: Edit, normalise: Normalise) -> bool:
    return edit.kind != SUBSTITUTION and not normalise(edit.reference or edit.hypothesis).strip()


def kind_of(one: str, other: str) -> str:
    """Say in what two spellings of a word differ: one of ``PAIRS``."""
    if one.casefold() == other.casefold():
        return "case"
    if bare(one) == bare(other):
        return "punctuation"
    return "case_and_punctuation" if bare(one).casefold() == bare(other).casefold() else "other"


@functools.lru_cache(maxsize=200_000)
def bare(word: str) -> str:
    """Return a word without punctuation."""
    return "".join(char for char in word if not is_mark(char))


def is_mark(char: str) -> bool:
    """Tell whether a character is punctuation."""
    return unicodedata.category(char)[0] == "P"


def writing(raw: ScoredTexts) -> dict[str, Any]:
    """Return ``writing``: how often words that were recognised differ in case, or in their punctuation.

    A half is None where the references have no capitals beside small letters, or no punctuation.
    """
    same = Counter[tuple[str, str]]()
    for edit in raw.word_edits:
        if edit.kind == SUBSTITUTION and bare(edit.reference).casefold() == bare(edit.hypothesis).casefold():
            same[edit.reference, edit.hypothesis] += 1
    words = int(raw.counts.words.hits.sum()) + same.total()
    text = "\n".join(raw.counts.reference_normalized)
    has_case = text != text.lower() and text != text.upper()
    has_marks = any(map(is_mark, set(text)))
    case = sum(number for (one, other), number in same.items() if bare(one) != bare(other))
    punctuation = sum(number for (one, other), number in same.items() if _marks(one) != _marks(other))
    marks = {"marks": _mark_table(raw, same)} if has_marks else {}
    return {
        "case": _share(words, case) if has_case else None,
        "punctuation": _share(words, punctuation) | marks if has_marks else None,
    }


def _share(words: int, errors: int) -> dict[str, Any]:
    return {"words": words, "errors": errors, "rate": errors / words if words else 0.0}


def _marks(word: str) -> str:
    return "".join(filter(is_mark, word))


def _mark_table(raw: ScoredTexts, same: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    """Count each mark in both sides, and how often both have it at the same word."""
    totals = [Counter("".join(texts)) for texts in (raw.counts.reference_normalized, raw.counts.hypothesis_normalized)]
    agreed = Counter({char: number for char, number in totals[0].items() if is_mark(char)})
    for edit in raw.word_edits:
        agreed.subtract(_marks(edit.reference))
    for (one, other), number in same.items():
        for char, times in (Counter(_marks(one)) & Counter(_marks(other))).items():
            agreed[char] += number * times
    seen = sorted(agreed, key=lambda char: (-totals[0][char], char))[:MOST_MARKS]
    return [
        {"mark": char, "reference": totals[0][char], "hypothesis": totals[1][char], "agreed": agreed[char]}
        for char in seen
    ]


def numbers(texts: ScoredTexts) -> dict[str, Any] | None:
    """Return how words with a digit fared; None where no reference holds any after normalising."""
    with_digits = [row for row, text in enumerate(texts.counts.reference_normalized) if _DIGIT.search(text)]
    words = texts.words[0]
    places = {(row, place) for row in with_digits for place, word in enumerate(words[row]) if _DIGIT.search(word)}
    return _special(texts, places, 0)


def names(texts: ScoredTexts) -> dict[str, Any] | None:
    """Return how words capitalised inside a sentence fared; None where no reference holds any."""
    normalise = functools.lru_cache(maxsize=None)(get_pipeline(texts.counts.normalizer))
    places, unmapped = set[tuple[int, int]](), 0
    for row, text in enumerate(texts.references):
        if text == text.lower() or text == text.upper():
            continue
        (words,) = split_words([text])
        chosen = {place for place in range(1, len(words)) if is_name(words[place - 1], words[place])}
        if not chosen:
            continue
        parts = [split_words([normalise(word)])[0] for word in words]
        if [word for part in parts for word in part] != texts.words[0][row]:
            unmapped += 1
            continue
        places.update((row, place) for place in _places(parts, chosen))
    return _special(texts, places, unmapped)


def is_name(before: str, word: str) -> bool:
    """Tell whether a word is capitalised although no sentence begins there; single letters (I, A) are none."""
    plain = bare(word.split("'")[0].split("’")[0])
    return len(plain) > 1 and plain[0].isupper() and not before.endswith(_SENTENCE_ENDS) and not is_mark(word[0])


def _places(parts: list[list[str]], chosen: set[int]) -> Iterator[int]:
    """Yield the places of normalised words that come from chosen raw ones."""
    at = 0
    for number, part in enumerate(parts):
        if number in chosen:
            yield from range(at, at + len(part))
        at += len(part)


def _special(texts: ScoredTexts, places: set[tuple[int, int]], unmapped: int) -> dict[str, Any] | None:
    """Count the errors at some words of the references."""
    if not places and not unmapped:
        return None
    wrong, first = Counter[tuple[str, str]](), dict[tuple[str, str], int]()
    for edit in texts.word_edits:
        if edit.kind != INSERTION and (edit.row, edit.place) in places:
            wrong[edit.reference, edit.hypothesis] += 1
            first.setdefault((edit.reference, edit.hypothesis), edit.row)
    examples = [
        {"reference": one, "hypothesis": other, "count": number, "id": texts.counts.ids[first[one, other]]}
        for (one, other), number in wrong.most_common(MOST_EXAMPLES)
    ]
    return _share(len(places), wrong.total()) | {
        "utterances": len({row for row, _ in places}),
        "unmapped": unmapped,
        "examples": examples,
    }
