"""What one wants to know of a corpus before training on it, as numbers and names: ``inspect.json``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_asr.evaluation.page_scale import make_scale
from hf_asr.utterance import Seconds

Floats = NDArray[np.float64]

SCHEMA_VERSION = 1
BINS = 24
MOST_NAMED = 30
# As `hf-asr doctor`: nobody speaks 40 characters a second, and read speech lies within a factor of its median.
MAX_CHARACTERS_PER_SECOND = 40.0
TIMES_MEDIAN = 3.0


@dataclass(frozen=True)
class SplitTexts:
    """A split as columns, one entry a clip.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        ids: Ids of the clips.
        texts: Transcripts as the corpus has them.
        spoken: Transcripts after the normalizer; words are counted in these.
        speakers: Speakers, empty where unknown.
        durations: Seconds; None where unknown.
        labels: Classes, empty where there are none.
        drops: Reason to the clips that the corpus or its filters left out, each its id and a detail.
        leaks: Sentences about what it shares with an earlier split.
    """

    name: str
    ids: Sequence[str]
    texts: Sequence[str]
    spoken: Sequence[str]
    speakers: Sequence[str]
    durations: Sequence[Seconds | None]
    labels: Sequence[str] = ()
    drops: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    leaks: Sequence[str] = ()


def corpus_facts(splits: Sequence[SplitTexts], normalizer: str) -> dict[str, Any]:
    """Return what inspect.json holds.

    Args:
        splits: The splits; words of ``train`` are those that the others' words are looked up in.
        normalizer: Name of the pipeline that ``spoken`` went through.
    """
    words = {split.name: Counter(word for text in split.spoken for word in text.split()) for split in splits}
    everything = np.concatenate([_seconds(split) for split in splits])
    edges = duration_edges(everything[~np.isnan(everything)])
    known = words.get("train")
    return {
        "schema_version": SCHEMA_VERSION,
        "normalizer": normalizer,
        "duration_edges": edges,
        "splits": {
            split.name: _facts(split, words[split.name], None if split.name == "train" else known, edges)
            for split in splits
        },
        "leaks": [line for split in splits for line in split.leaks],
    }


def duration_edges(seconds: Floats) -> list[float]:
    """Return round ends of about 24 intervals from 0 to the longest clip."""
    if not len(seconds):
        return [0.0, 1.0]
    return [round(float(tick), 9) for tick in make_scale([0.0, float(seconds.max()) or 1.0], wanted=BINS).ticks]


def _facts(
    split: SplitTexts, words: Counter[str], known: Counter[str] | None, edges: Sequence[float]
) -> dict[str, Any]:
    seconds = _seconds(split)
    return {
        "utterances": len(split.ids),
        "seconds": float(np.nansum(seconds)) if not np.isnan(seconds).all() else None,
        "durations": _durations(seconds, edges),
        "speakers": _speakers(split, seconds),
        "words": words.total(),
        "vocabulary": len(words),
        "words_once": sum(count == 1 for count in words.values()),
        "most_frequent_words": [{"word": word, "count": count} for word, count in words.most_common(MOST_NAMED)],
        "out_of_vocabulary": None if known is None else _unknown(words, known),
        "characters": _characters(split.spoken),
        "characters_per_second": _pace(split, seconds),
        "duplicates": _duplicates(split),
        "empty_texts": sum(not text.strip() for text in split.texts),
        "labels": dict(Counter(label for label in split.labels if label).most_common()),
        "drops": {
            reason: {"clips": len(items), "named": [list(item) for item in items[:MOST_NAMED]]}
            for reason, items in split.drops.items()
        },
    }


def _seconds(split: SplitTexts) -> Floats:
    return np.array([math.nan if value is None else value for value in split.durations], dtype=np.float64)


def _durations(seconds: Floats, edges: Sequence[float]) -> dict[str, Any]:
    known = seconds[~np.isnan(seconds)]
    counts, _ = np.histogram(known, edges)
    names = ("min", "p5", "median", "p95", "max")
    values = np.quantile(known, (0, 0.05, 0.5, 0.95, 1)).tolist() if len(known) else [None] * 5
    return {
        **dict(zip(names, values, strict=True)),
        "mean": float(known.mean()) if len(known) else None,
        "unknown": int(np.isnan(seconds).sum()),
        "histogram": counts.tolist(),
    }


def _speakers(split: SplitTexts, seconds: Floats) -> dict[str, Any]:
    """Return the speakers by what they said; one who said half of a corpus is not an even sample of it."""
    clips = Counter(split.speakers)
    unknown = clips.pop("", 0)
    total: dict[str, float] = dict.fromkeys(clips, 0.0)
    for speaker, length in zip(split.speakers, seconds.tolist(), strict=True):
        if speaker and not math.isnan(length):
            total[speaker] += length
    most = sorted(clips, key=lambda name: (-total[name], -clips[name]))
    spoken = sum(total.values())
    return {
        "number": len(clips),
        "unknown": unknown,
        "share_of_largest": total[most[0]] / spoken if most and spoken else None,
        "most": [{"speaker": name, "utterances": clips[name], "seconds": total[name]} for name in most[:MOST_NAMED]],
    }


def _unknown(words: Counter[str], known: Counter[str]) -> dict[str, Any]:
    """Return the words that train does not have: their share of different words, and of all that are said."""
    missing = Counter({word: count for word, count in words.items() if word not in known})
    return {
        "types": len(missing),
        "tokens": missing.total(),
        "type_rate": len(missing) / len(words) if words else None,
        "token_rate": missing.total() / words.total() if words else None,
        "most": [{"word": word, "count": count} for word, count in missing.most_common(MOST_NAMED)],
    }


def _characters(texts: Sequence[str]) -> list[dict[str, Any]]:
    counts = Counter(char for text in texts for char in text if not char.isspace())
    return [{"character": char, "count": count} for char, count in counts.most_common()]


def _pace(split: SplitTexts, seconds: Floats) -> dict[str, Any]:
    """Return the characters a second, and the clips whose text is far too long or too short for their audio."""
    lengths = np.array([len(text.strip()) for text in split.texts], dtype=np.float64)
    timed = ~np.isnan(seconds) & (seconds > 0) & (lengths > 0)
    rates = np.divide(lengths, seconds, out=np.full(len(lengths), np.nan), where=timed)
    if not timed.any():
        return {"median": None, "above": None, "below": None, "fast": [], "slow": [], "num_fast": 0, "num_slow": 0}
    median = float(np.nanmedian(rates))
    above, below = min(MAX_CHARACTERS_PER_SECOND, TIMES_MEDIAN * median), median / TIMES_MEDIAN
    fast = [int(row) for row in np.argsort(-np.nan_to_num(rates), kind="stable") if rates[row] > above]
    slow = [int(row) for row in np.argsort(rates, kind="stable") if rates[row] < below]
    return {
        "median": median,
        "above": above,
        "below": below,
        "num_fast": len(fast),
        "num_slow": len(slow),
        "fast": [_clip(split, row, rates) for row in fast[:MOST_NAMED]],
        "slow": [_clip(split, row, rates) for row in slow[:MOST_NAMED]],
    }


def _clip(split: SplitTexts, row: int, rates: Floats) -> dict[str, Any]:
    return {
        "id": split.ids[row],
        "text": split.texts[row],
        "duration": split.durations[row],
        "characters_per_second": float(rates[row]),
    }


def _duplicates(split: SplitTexts) -> dict[str, Any]:
    """Return the sentences that more than one clip has, after normalising."""
    counts = Counter(text for text in split.spoken if text.strip())
    twice = Counter({text: count for text, count in counts.items() if count > 1})
    return {
        "sentences": len(twice),
        "utterances": twice.total(),
        "share": twice.total() / len(split.spoken) if split.spoken else None,
        "most": [{"text": text, "count": count} for text, count in twice.most_common(MOST_NAMED)],
    }
