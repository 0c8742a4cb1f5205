"""Two profiles side by side: the cells that both have, and what changed by more than their spread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError
from hf_asr.profiling.recommend import SAME

KEY = ("model", "variant", "device", "dtype", "duration", "batch_size")
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
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {*KEY, "status"} <= row.keys() for row in rows):
        raise UserError(f"--compare: expected a profile.json (a list of rows), found something else in {path}")
    return rows


def _lines(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    model, variant, device, dtype, duration, batch = key_of(before)
    yield f"{model}, {variant}, {device}, {dtype}, {duration:g} s, batch {batch}"
    for name in FIGURES:
        old, new = before.get(name), after.get(name)
        if old is None or new is None or not old:
            continue
        within = name in ("latency_seconds", "rtfx") and _overlap(
            before["latency_quartiles"], after["latency_quartiles"]
        )
        told = "  (quartiles overlap: no difference shown)" if within else ""
        yield f"  {name}: {old:.4g} -> {new:.4g}  ({new / old:.2f} x){told}"


def _agreement(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Return how many medians agree, of those that do not how many have quartiles that overlap, and who ran once."""
    pairs = [pair for pair in pairs if all(row["latency_seconds"] for row in pair)]
    ratios = [after["latency_seconds"] / before["latency_seconds"] for before, after in pairs]
    apart = [pair for pair, ratio in zip(pairs, ratios, strict=True) if not 1 / (1 + SAME) <= ratio <= 1 + SAME]
    spread = sum(_overlap(*(row["latency_quartiles"] for row in pair)) for pair in apart)
    once = sum(min(row["n"] for row in pair) == 1 for pair in apart)
    told = f"median latencies within {SAME:.0%} of each other: {len(pairs) - len(apart)} of {len(pairs)} cells"
    return f"{told}; of the others {spread} with quartiles that overlap, {once} that ran once" if apart else told


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]
