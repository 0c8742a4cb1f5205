"""Two profiles side by side: the cells that both have, and what changed by more than their spread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError
from hf_asr.profiling.recommend import SAME

KEY = ("model", "variant", "device", "dtype", "duration", "batch_size")
# Samples from which quartiles tell how far two medians of the same thing lie apart.
ENOUGH = 8
FIGURES = ("latency_seconds", "rtfx", "per_token_seconds", "peak_bytes", "joules_per_clip", "wer")


def compare_files(first: Path, second: Path) -> str:
    """Return a table of the cells that two profile.json share, as text.

    Args:
        first: The earlier one.
        second: The later one.

    Raises:
        UserError: One is no profile.json, or they share no measured cell.
    """
    rows = [{key_of(row): row for row in read_rows(path) if row["status"] == "measured"} for path in (first, second)]
    shared = [key for key in rows[0] if key in rows[1]]
    if not shared:
        raise UserError(f"--compare: expected cells in common, found none in {first} and {second}; compare others")
    lines = [line for key in shared for line in _lines(rows[0][key], rows[1][key])]
    alone = [f"only in {path}: {len(own) - len(shared)} cells" for path, own in zip((first, second), rows, strict=True)]
    alone = [line for line in alone if not line.endswith(" 0 cells")]
    agreed = _agreement([(rows[0][key], rows[1][key]) for key in shared])
    return "\n".join([f"{first} -> {second}", *lines, *alone, agreed])


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what names a cell."""
    return tuple(row[name] for name in KEY)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a profile.json.

    Raises:
        UserError: It is none.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--compare: expected a profile.json, found {path}: {error}; give another") from error
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise UserError(
            f"--compare: expected a profile.json (a list of rows), found something else in {path}; give another"
        )
    return rows


def _is_row(row: Any) -> bool:
    """Tell whether something is a row; figures that a version before did not have may be missing."""
    if not isinstance(row, dict) or not {*KEY, "status"} <= row.keys():
        return False
    numbers = all(isinstance(row.get(name, 0), int | float | None) for name in FIGURES)
    return numbers and (row["status"] != "measured" or {"n", "latency_seconds", "latency_quartiles"} <= row.keys())


def _lines(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    model, variant, device, dtype, duration, batch = key_of(before)
    yield f"{model}, {variant}, {device}, {dtype}, {duration:g} s, batch {batch}"
    for name in FIGURES:
        old, new = before.get(name), after.get(name)
        if old is None or new is None or not old:
            continue
        why = _why(before, after) if name in ("latency_seconds", "rtfx") else ""
        yield f"  {name}: {old:.4g} -> {new:.4g}  ({new / old:.2f} x)" + (f"  ({why})" if why else "")


def _why(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Tell what may be behind a change of latency other than the model; nothing where that does not cover it.

    Quartiles of fewer than ``ENOUGH`` samples lie closer together than two medians of the same thing do: their whole
    range counts.
    """
    name = "quartiles" if min(before["n"], after["n"]) >= ENOUGH else "range"
    ranges = [row.get(f"latency_{name}") or row["latency_quartiles"] for row in (before, after)]
    if ranges[0][0] <= ranges[1][1] and ranges[1][0] <= ranges[0][1]:
        return f"{'quartiles' if name == 'quartiles' else 'ranges'} overlap: no difference shown"
    if not (before.get("pace_seconds") and after.get("pace_seconds")):
        return ""
    pace, change = (after[name] / before[name] for name in ("pace_seconds", "latency_seconds"))
    covered = min(1, pace) / (1 + SAME) <= change <= max(1, pace) * (1 + SAME)
    return f"the machine itself: {pace:.2f} x" if covered and not _same(pace) else ""


def _same(ratio: float) -> bool:
    return 1 / (1 + SAME) <= ratio <= 1 + SAME


def _agreement(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Return how many medians agree, and what the others have to say for themselves."""
    pairs = [pair for pair in pairs if all(row["latency_seconds"] for row in pair)]
    apart = [pair for pair in pairs if not _same(pair[1]["latency_seconds"] / pair[0]["latency_seconds"])]
    told = f"median latencies within {SAME:.0%} of each other: {len(pairs) - len(apart)} of {len(pairs)} cells"
    if not apart:
        return told
    why = [_why(*pair) for pair in apart]
    spread, pace = sum("overlap" in reason for reason in why), sum("machine" in reason for reason in why)
    once = sum(not reason and min(row["n"] for row in pair) == 1 for reason, pair in zip(why, apart, strict=True))
    reasons = f"{spread} with samples that overlap, {pace} where the machine itself changed as much"
    return f"{told}; of the others {reasons}, {once} that ran once, {len(apart) - spread - pace - once} changed"
