"""Kinds of failure that a rate hides: loops, another script or language, texts that break off, words on silence.

Sources: compression ratio: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023,
section 4.5 (a text whose zlib ratio is above 2.4 repeats itself).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hf_asr.data.scripts import count_scripts
from hf_asr.evaluation.edits import DELETION
from hf_asr.evaluation.texts import ScoredTexts

MOST_EXAMPLES = 20
COMPRESSION_RATIO = 2.4
LONGEST_LOOP = 8
FEWEST_REPEATS = 3
# Characters without spaces that a stretch must repeat so often; fewer are laughter and lengthened vowels.
_CHARACTER_LOOP = re.compile(r"(\S{1,20}?)\1{5,}")
FEWEST_WORDS = 3
UNKNOWN_SHARE = 0.75
TRUNCATED_SHARE = 0.25
# A set that says less knows too few words for "in no reference" to mean anything.
FEWEST_KNOWN_WORDS = 200


class Finding(NamedTuple):
    """One utterance of a kind.

    Attributes:
        row: Its number.
        strength: Larger ones are shown first.
        detail: What was seen, for people.
    """

    row: int
    strength: float
    detail: str


def findings(texts: ScoredTexts) -> dict[str, Any]:
    """Return ``findings``: each kind with its utterances, the words that are errors in them, and examples."""
    return {name: _summary(texts, list(find(texts))) for name, find in KINDS.items()}


def _summary(texts: ScoredTexts, found: Sequence[Finding]) -> dict[str, Any]:
    errors, examples = texts.counts.words.errors, sorted(found, key=lambda one: (-one.strength, one.row))
    return {
        "utterances": len(found),
        "words": int(sum(errors[one.row] for one in found)),
        "share": len(found) / len(texts.counts),
        "examples": [texts.example(one.row) | {"detail": one.detail} for one in examples[:MOST_EXAMPLES]],
    }


def loops(texts: ScoredTexts) -> Iterator[Finding]:
    """Yield utterances whose hypothesis repeats itself more than its reference does."""
    said, heard = texts.words
    for row in texts.counts.words.errors.nonzero()[0].tolist():
        text = texts.counts.hypothesis_normalized[row]
        reference = texts.counts.reference_normalized[row]
        repeats, repeated = longest_loop(heard[row])
        ratio = compression_ratio(text)
        if repeats >= FEWEST_REPEATS and repeats > longest_loop(said[row])[0]:
            yield Finding(row, float(repeats), f"“{repeated}” {repeats} times")
        elif (found := _CHARACTER_LOOP.search(text)) and not _CHARACTER_LOOP.search(reference):
            repeats = len(found[0]) // len(found[1])
            yield Finding(row, float(repeats), f"“{found[1]}” {repeats} times")
        elif ratio > COMPRESSION_RATIO >= compression_ratio(reference):
            yield Finding(row, ratio, f"compression ratio {ratio:.1f}")


def longest_loop(words: Sequence[str]) -> tuple[int, str]:
    """Return how often a stretch of 1 to 8 words follows itself at most, and the stretch."""
    best, stretch = 1, ""
    if len(words) - len(set(words)) < FEWEST_REPEATS - 1:
        return best, stretch
    for size in range(1, min(LONGEST_LOOP, len(words) // FEWEST_REPEATS) + 1):
        run = 0
        for place in range(size, len(words)):
            run = run + 1 if words[place] == words[place - size] else 0
            if run // size + 1 > best:
                best, stretch = run // size + 1, " ".join(words[place - size + 1 : place + 1])
    return best, stretch


def compression_ratio(text: str) -> float:
    """Return how much shorter zlib makes a text; 0 of no text."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data)) if data else 0.0


def other_script(texts: ScoredTexts) -> Iterator[Finding]:
    """Yield utterances most of whose letters are of a script that the reference does not use."""
    for row in texts.counts.words.errors.nonzero()[0].tolist():
        reference, text = texts.counts.reference_normalized[row], texts.counts.hypothesis_normalized[row]
        if not text or not reference or (text.isascii() and reference.isascii()):
            continue
        known, found = count_scripts(reference), count_scripts(text)
        foreign = {name: number for name, number in found.items() if name not in known}
        if known and 2 * sum(foreign.values()) > found.total():
            script = max(foreign, key=lambda name: foreign[name])
            yield Finding(row, float(foreign[script]), script.title())


def unknown_words(texts: ScoredTexts) -> Iterator[Finding]:
    """Yield utterances that have no word right and hardly one that any reference has."""
    said, heard = texts.words
    known = {word for words in said for word in words}
    if sum(map(len, said)) < FEWEST_KNOWN_WORDS:
        return
    for row in (texts.counts.words.hits == 0).nonzero()[0].tolist():
        words, strange = heard[row], [word for word in heard[row] if word not in known]
        if len(words) >= FEWEST_WORDS and said[row] and len(strange) >= UNKNOWN_SHARE * len(words):
            yield Finding(row, float(len(strange)), f"{len(strange)} of {len(words)} words are in no reference")


def truncated(texts: ScoredTexts) -> Iterator[Finding]:
    """Yield utterances whose last words are missing although those before were recognised."""
    table, words = texts.counts.word_edits, texts.counts.words
    lengths, hits = words.reference_length, words.hits
    missing = table.reference_ends - table.reference_starts
    at_end = (table.kinds == DELETION) & (table.reference_ends == lengths[table.rows])
    for place in at_end.nonzero()[0].tolist():
        row, lost = int(table.rows[place]), int(missing[place])
        before = int(lengths[row]) - lost
        long_enough = lost >= FEWEST_WORDS and lost >= TRUNCATED_SHARE * lengths[row]
        if long_enough and before and 2 * hits[row] >= before:
            yield Finding(row, float(lost), f"the last {lost} of {int(lengths[row])} words are missing")


def empty(texts: ScoredTexts) -> Iterator[Finding]:
    """Yield utterances of which nothing was recognised."""
    words = texts.counts.words
    for row in ((words.hypothesis_length == 0) & (words.reference_length > 0)).nonzero()[0].tolist():
        length = int(words.reference_length[row])
        yield Finding(row, float(length), f"{length} words")


def words_on_silence(texts: ScoredTexts) -> Iterator[Finding]:
    """Yield utterances with words where the reference has none."""
    words = texts.counts.words
    for row in ((words.reference_length == 0) & (words.insertions > 0)).nonzero()[0].tolist():
        length = int(words.insertions[row])
        yield Finding(row, float(length), f"{length} words")


KINDS: dict[str, Callable[[ScoredTexts], Iterator[Finding]]] = {
    "loops": loops,
    "other_script": other_script,
    "unknown_words": unknown_words,
    "truncated": truncated,
    "empty": empty,
    "words_on_silence": words_on_silence,
}
