"""What fine-tuning did to other sets than its own: before and after, side by side with what may be lost.

``also/guardrails.json`` of a run holds one entry a set of ``evaluation.also``; screen, card and report read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError
from hf_asr.evaluation.non_speech import KIND
from hf_asr.evaluation.report import RESULTS, compare_results, read_results, replace_file
from hf_asr.text import cer_first

ALSO = "also"
GUARDRAILS = "guardrails.json"
BEFORE, AFTER = "baseline", "test"
# Rounding of sums of fractions; a change of exactly the limit is within it.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One set before and after.

    Attributes:
        name: Its key in ``evaluation.also``.
        rate: ``wer``, ``cer`` or ``share_with_text``.
        after: That rate after fine-tuning, a fraction.
        after_interval: Its 95 % interval.
        before: The untouched model's; None where it is not known.
        difference: ``after`` minus ``before``: above 0, something was lost.
        difference_interval: Its paired 95 % interval; None for ``share_with_text``, or without ``before``.
        words_per_minute: Words invented in a minute without speech, before and after; None for speech.
        clips: How many clips were scored.
        language: Language it was decoded in.
        normalizer: Text pipeline of the scoring side.
        limit: Points that may be lost; None where nothing was said.
        exceeded: Whether more was lost; None where it cannot be told.
    """

    name: str
    rate: str
    after: float
    after_interval: tuple[float, float]
    before: float | None
    difference: float | None
    difference_interval: tuple[float, float] | None
    words_per_minute: tuple[float | None, float | None] | None
    clips: int
    language: str | None
    normalizer: str
    limit: float | None
    exceeded: bool | None


def compare_sets(after_dir: Path, before_dir: Path | None, sets: Sequence[str], limits: Mapping[str, float]) -> Path:
    """Set every set's results side by side and write ``guardrails.json``.

    Args:
        after_dir: Folder whose ``also/NAME/test`` holds the results, and which gets ``also/guardrails.json``.
        before_dir: Folder whose ``also/NAME/baseline`` (else ``also/NAME/test``) holds those to compare with; None for
            nothing to compare with.
        sets: Names in ``evaluation.also``.
        limits: ``evaluation.also_limits``.

    Returns:
        The file.

    Raises:
        UserError: Results are missing, or are of other clips.
    """
    found = [_compare(after_dir, before_dir, name, limits.get(name)) for name in sets]
    path = after_dir / ALSO / GUARDRAILS
    replace_file(path, json.dumps([asdict(item) for item in found], ensure_ascii=False, indent=2) + "\n")
    return path


def read_guardrails(folder: str | Path) -> list[Guardrail]:
    """Return what ``also/guardrails.json`` of a folder says; empty where there is none.

    Raises:
        UserError: The file is not whole.
    """
    path = Path(folder) / ALSO / GUARDRAILS
    if not path.is_file():
        return []
    try:
        return [Guardrail(**item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise UserError(f"expected a list of sets in {path}, found something else ({error}); score again") from error


def exceeded(found: Sequence[Guardrail]) -> str:
    """Return one sentence on the sets that lost more than they may; empty where none did."""
    worse = [f"{item.name} {change(item)}, limit {item.limit:g}" for item in found if item.exceeded]
    return f"evaluation.also_limits: {'; '.join(worse)}" if worse else ""


def lines(found: Sequence[Guardrail]) -> Iterator[tuple[str, str]]:
    """Yield (name, before and after in words) of each set, for screens."""
    for item in found:
        verdict = "" if item.limit is None or item.exceeded is None else f", limit {item.limit:g}"
        verdict += ": EXCEEDED" if item.exceeded else ""
        moved = f" ({change(item)}{verdict})" if item.difference is not None else ""
        yield item.name, f"{rate_name(item.rate)} {_before(item)}{_with_interval(item)}{moved}{_per_minute(item)}"


def change(item: Guardrail) -> str:
    """Return how far a set's rate moved, in points, with the interval where there is one."""
    assert item.difference is not None, item
    text = f"{100 * item.difference:+.2f}"
    if item.difference_interval is not None:
        low, high = (100 * end for end in item.difference_interval)
        text += f" [{low:+.2f}, {high:+.2f}]"
    return f"{text} points"


def rate_name(rate: str) -> str:
    """Return a rate as a person reads it."""
    return {"share_with_text": "clips with text"}.get(rate, rate.upper())


def _compare(after_dir: Path, before_dir: Path | None, name: str, limit: float | None) -> Guardrail:
    place = after_dir / ALSO / name / AFTER
    after = read_results(place)
    earlier = None if before_dir is None else _earlier(before_dir, name)
    before = None if earlier is None else read_results(earlier)
    silent = after.get("kind") == KIND
    rate = "share_with_text" if silent else "cer" if cer_first(after.get("language")) else "wer"
    difference = interval = None
    if before is not None and earlier is not None:
        _check_same(name, before, after)
        difference = after[rate] - before[rate]
        interval = None if silent else _paired(name, earlier, place, rate)
    return Guardrail(
        name=name,
        rate=rate,
        after=after[rate],
        after_interval=tuple(after[f"{rate}_interval"]),
        before=None if before is None else before[rate],
        difference=difference,
        difference_interval=interval,
        words_per_minute=((before or {}).get("words_per_minute"), after["words_per_minute"]) if silent else None,
        clips=after["num_utterances"],
        language=after.get("language"),
        normalizer=after["normalizer"],
        limit=limit,
        exceeded=None if limit is None or difference is None else 100 * difference > limit + TOLERANCE,
    )


def _earlier(folder: Path, name: str) -> Path:
    """Return where the results to compare with are: a run's baseline, else what hf-asr evaluate wrote."""
    places = [folder / ALSO / name / part for part in (BEFORE, AFTER)]
    for place in places:
        if (place / RESULTS).is_file():
            return place
    raise UserError(
        f"expected earlier results of the set {name} in {places[0]} or {places[1]}, found none; score the untouched "
        "model with the same evaluation.also first"
    )


def _check_same(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for key in ("num_utterances", "normalizer"):
        if before[key] != after[key]:
            raise UserError(
                f"the set {name}: expected the same {key} before and after, found {before[key]} and {after[key]}; "
                "score both again with one evaluation.also"
            )


def _paired(name: str, before: Path, after: Path, rate: str) -> tuple[float, float]:
    try:
        found = compare_results(before, after, rate="cer" if rate == "cer" else "wer")
    except UserError as error:
        raise UserError(f"the set {name}: {error}") from error
    return found.low, found.high


def _before(item: Guardrail) -> str:
    return "" if item.before is None else f"{100 * item.before:.2f} % -> "


def _with_interval(item: Guardrail) -> str:
    low, high = item.after_interval
    return f"{100 * item.after:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def _per_minute(item: Guardrail) -> str:
    if item.words_per_minute is None:
        return ""
    parts = " -> ".join(f"{value:.1f}" for value in item.words_per_minute if value is not None)
    return f"; {parts} words a minute without speech"
