"""What a model writes where nobody speaks: words a minute, and the share of clips with any text.

There is no WER without reference words. Every word is an insertion, so the files keep the form of other sets': a
prediction's ``insertions`` are its words.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from hf_asr.evaluation.report import COLUMNS, PREDICTIONS, RESULTS, replace_file, speed
from hf_asr.evaluation.report import join_rows as joined
from hf_asr.text import apply_pipeline
from hf_asr.utterance import Drops, Hypothesis, Seconds

KIND = "non_speech"
# 97.5 % quantile of the normal distribution.
Z = 1.959964


def write_non_speech(
    directory: str | Path,
    *,
    rows: Mapping[str, Sequence[Any]],
    hypotheses: Sequence[Hypothesis],
    skipped: Drops,
    conditions: Mapping[str, Any],
    wall_seconds: Seconds | None,
    normalizer: str,
    about: Mapping[str, Any],
    split: str = "test",
    seed: int = 42,
) -> dict[str, Any]:
    """Count what was written for clips without speech, and write test_results.json and test_predictions.csv.

    Args:
        directory: Folder of the two files, made when missing.
        rows: Columns ``id``, ``text``, ``duration``, ``speaker`` and ``sound``.
        hypotheses: One for each clip that could be decoded.
        skipped: What was left out.
        conditions: Decoding conditions; their keys stand beside the others.
        wall_seconds: Time the decoding took.
        normalizer: Text pipeline of the hypotheses; what is nothing but punctuation is no text after it.
        about: More keys to store.
        split: Name of the split.
        seed: Stored; nothing is drawn here.

    Returns:
        What test_results.json holds.

    Raises:
        UserError: The folder cannot be written.
    """
    scored = joined(rows, hypotheses)
    texts = [apply_pipeline(normalizer, row.hypothesis) for row in scored]
    sounds = dict(zip(rows["id"], rows["sound"], strict=True))
    clips = [(sounds[row.id], len(text.split()), row.duration or 0.0) for row, text in zip(scored, texts, strict=True)]
    results = {"kind": KIND, **_sums(clips), "normalizer": normalizer}
    results["by_sound"] = {
        sound: _sums([clip for clip in clips if clip[0] == sound]) for sound in dict.fromkeys(clip[0] for clip in clips)
    }
    results |= speed(scored, wall_seconds)
    results |= {"skipped": skipped.counts(), "skipped_items": skipped.to_dict(), "split": split, "seed": seed}
    results |= {**conditions, **about}
    replace_file(Path(directory) / PREDICTIONS, _table(scored, texts))
    replace_file(Path(directory) / RESULTS, json.dumps(results, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    return results


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927); it holds for few trials and for none or all successes."""
    share, square = successes / trials, Z**2 / trials
    centre = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * sqrt(share * (1 - share) / trials + square / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def _sums(clips: Sequence[tuple[str, int, Seconds]]) -> dict[str, Any]:
    """Return the numbers of clips given as (sound, words, seconds)."""
    words, with_text = sum(clip[1] for clip in clips), sum(clip[1] > 0 for clip in clips)
    minutes = sum(clip[2] for clip in clips) / 60
    return {
        "words_per_minute": words / minutes if minutes else None,
        "share_with_text": with_text / len(clips),
        "share_with_text_interval": list(wilson_interval(with_text, len(clips))),
        "num_utterances": len(clips),
        "num_with_text": with_text,
        "insertions": words,
    }


def _table(scored: Sequence[Any], texts: Sequence[str]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row, text in zip(scored, texts, strict=True):
        words = len(text.split())
        writer.writerow((row.id, "", row.hypothesis, "", text, row.duration, row.speaker, 0, 0, words, 0))
    return table.getvalue()
