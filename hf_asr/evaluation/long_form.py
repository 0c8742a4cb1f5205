"""Whole recordings scored: WER over the joined text, and how far segments' times are from the known ones.

All that is said in a recording is one reference, all that was written one hypothesis, and one alignment goes over both:
where a segment begins or ends does not matter (segment-free, as for meetings). A word written into a stretch that the
corpus has no text for is an insertion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_asr.data.recordings import Recording
from hf_asr.evaluation.counts import count_errors
from hf_asr.inference.formats import Segment
from hf_asr.text import apply_pipeline, cer_first
from hf_asr.utterance import Seconds

# Subtitles are noticed as late or early from about 0.2 s; 0.5 s is the collar of older evaluations of times.
CLOSE: tuple[Seconds, ...] = (0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Timed:
    """Words in a row, and the known times at some of their edges.

    Attributes:
        words: All words, normalised.
        starts: Place of a word to the second at which it begins.
        ends: Place of a word to the second at which it ends.
    """

    words: list[str]
    starts: dict[int, Seconds]
    ends: dict[int, Seconds]


def timestamp_errors(
    recordings: Sequence[Recording],
    written: Mapping[str, Sequence[Segment]],
    *,
    normalizer: str,
    language: str | None,
) -> dict[str, Any]:
    """Compare segments' times with the known ones.

    A known end is compared where the last word of its stretch was recognised, and is the last word of a written
    segment too; starts likewise with first words. So words decide which times belong together, and errors are those
    of times alone. How many could be compared stands beside them: a model that ends its segments elsewhere has few.

    Args:
        recordings: With their stretches; those without are left out.
        written: Recording's id to what was written, with times.
        normalizer: Text pipeline of both sides.
        language: Decides whether words or characters are aligned.

    Returns:
        ``start`` and ``end``, each with ``num_known``, ``num_compared`` and, in seconds, written minus known:
        ``median``, ``median_absolute``, ``p90_absolute``; ``share_within`` of each of :data:`CLOSE`. Null without any.
    """
    differences: dict[str, list[Seconds]] = {"start": [], "end": []}
    known = {"start": 0, "end": 0}
    for recording in recordings:
        if not recording.stretches or recording.id not in written:
            continue
        truth = _timed([(part.start, part.end, part.text) for part in recording.stretches], normalizer, language)
        said = _timed([(part.start, part.end, part.text) for part in written[recording.id]], normalizer, language)
        pairs = dict(_pairs(truth.words, said.words))
        sides = {"start": (truth.starts, said.starts), "end": (truth.ends, said.ends)}
        for side, (right, found) in sides.items():
            known[side] += len(right)
            matched = ((seconds, found.get(pairs.get(place, -1))) for place, seconds in right.items())
            differences[side] += [other - seconds for seconds, other in matched if other is not None]
    return {side: _spread(known[side], differences[side]) for side in differences}


def _timed(parts: Sequence[tuple[Seconds, Seconds, str]], normalizer: str, language: str | None) -> Timed:
    timed = Timed([], {}, {})
    for start, end, text in parts:
        normalised = apply_pipeline(normalizer, text)
        units = [*"".join(normalised.split())] if cer_first(language) else normalised.split()
        if units:
            timed.starts[len(timed.words)] = start
            timed.words.extend(units)
            timed.ends[len(timed.words) - 1] = end
    return timed


def _pairs(reference: Sequence[str], hypothesis: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield (place in the reference, place in the hypothesis) of each word that was recognised."""
    counts = count_errors([" ".join(reference)], [" ".join(hypothesis)], normalizer="none")
    left = right = 0
    for kind, said, wrote in counts.alignment(0):
        lengths = len((said or "").split()), len((wrote or "").split())
        if kind == "=":
            yield from zip(range(left, left + lengths[0]), range(right, right + lengths[1]), strict=True)
        left, right = left + lengths[0], right + lengths[1]


def _spread(known: int, differences: Sequence[Seconds]) -> dict[str, Any]:
    found: dict[str, Any] = {"num_known": known, "num_compared": len(differences)}
    values = np.array(differences, dtype=np.float64)
    if not len(values):
        return found | dict.fromkeys(("median", "median_absolute", "p90_absolute", "share_within"))
    absolute = np.abs(values)
    return found | {
        "median": float(np.median(values)),
        "median_absolute": float(np.median(absolute)),
        "p90_absolute": float(np.quantile(absolute, 0.9)),
        "share_within": {f"{limit:g}": float(np.mean(absolute <= limit)) for limit in CLOSE},
    }
