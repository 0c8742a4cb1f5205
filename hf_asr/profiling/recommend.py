"""What follows from the rows: which of them no other is better than in everything, and what to take for three needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_asr.profiling.rows import Row
from hf_asr.profiling.screen import MIB

# Goal to whether less of it is better.
GOALS: Mapping[str, bool] = {"wer": True, "rtfx": False, "joules_per_clip": True, "forecast_bytes": True}
# What a row's name leaves out.
USUAL = {"variant": "sdpa", "device": "cpu", "dtype": "float32"}
# Medians nearer to each other than this are one speed (the spread of repeated grids on shared machines).
SAME = 0.1


@dataclass(frozen=True, slots=True)
class Advice:
    """A recommendation.

    Attributes:
        need: What it is for.
        text: What to take, and by which numbers.
        rows: Numbers of the rows it follows from, counted from 1 in the report's order.
    """

    need: str
    text: str
    rows: list[int]


def comparable(rows: Sequence[Row]) -> list[str]:
    """Return the goals that every measured row has a figure for."""
    measured = [row for row in rows if row["status"] == "measured"]
    return [goal for goal in GOALS if measured and all(row[goal] is not None for row in measured)]


def dominated(rows: Sequence[Row]) -> list[bool]:
    """Tell for each row whether another one of the same clip length is at least as good in every goal, better in one.

    Rows without a measurement are dominated. Only goals that all measured rows have count.
    """
    goals = comparable(rows)
    return [row["status"] != "measured" or any(_beats(other, row, goals) for other in rows) for row in rows]


def recommendations(rows: Sequence[Row]) -> list[Advice]:
    """Return what to take for the lowest latency, the highest throughput and the smallest memory, by clip length."""
    numbered = [(place, row) for place, row in enumerate(rows, start=1) if row["status"] == "measured"]
    found = []
    for duration in sorted({row["duration"] for _, row in numbered}):
        same = [(place, row) for place, row in numbered if row["duration"] == duration]
        found += [_latency(same, duration), _throughput(same, duration), _memory(same, duration)]
    return [advice for advice in found if advice is not None]


def _latency(rows: list[tuple[int, Row]], duration: float) -> Advice | None:
    smallest = min(row["batch_size"] for _, row in rows)
    single = sorted(
        ((place, row) for place, row in rows if row["batch_size"] == smallest),
        key=lambda pair: pair[1]["latency_seconds"],
    )
    return _advice(single, f"lowest latency at {duration:g} s", "latency_seconds", _seconds)


def _throughput(rows: list[tuple[int, Row]], duration: float) -> Advice | None:
    fastest = sorted(rows, key=lambda pair: -pair[1]["rtfx"])
    return _advice(fastest, f"highest throughput at {duration:g} s", "rtfx", _rtfx)


def _memory(rows: list[tuple[int, Row]], duration: float) -> Advice | None:
    known = [(place, row) for place, row in rows if row["forecast_bytes"] is not None]
    smallest = sorted(known, key=lambda pair: pair[1]["forecast_bytes"])
    return _advice(smallest, f"smallest memory at {duration:g} s", "forecast_bytes", _mib)


def _advice(ordered: list[tuple[int, Row]], need: str, field: str, shown: object) -> Advice | None:
    """Name the best row, the one behind it, and whether they differ by more than noise."""
    if not ordered:
        return None
    assert callable(shown)
    place, best = ordered[0]
    text = f"{describe(best)}: {shown(best[field])}"
    rows = [place]
    if best["wer"] is not None:
        text += f", WER {100 * best['wer']:.1f} %"
    if len(ordered) > 1:
        behind, second = ordered[1]
        rows.append(behind)
        same = abs(second[field] - best[field]) <= SAME * abs(best[field])
        text += f". Next: {describe(second)}, {shown(second[field])}"
        text += f"; they differ by less than {SAME:.0%}, which is no difference." if same else "."
        better = [row for _, row in ordered if _clearly_better_words(row, best)]
        if better:
            first = min(better, key=lambda row: row["wer"])
            rows.append(next(number for number, row in ordered if row is first))
            text += f" Fewer errors: {describe(first)}, WER {100 * first['wer']:.1f} % at {shown(first[field])}."
    return Advice(need, text, rows)


def _clearly_better_words(row: Row, best: Row) -> bool:
    """Whether a row's WER lies below the interval of another's."""
    return row["wer"] is not None and best["wer_interval"] is not None and row["wer"] < best["wer_interval"][0]


def describe(row: Row) -> str:
    """Return a row's name for a sentence."""
    return f"{name_of(row)}, batch {row['batch_size']}"


def name_of(row: Row) -> str:
    """Return the model, with what is not usual of how it was run."""
    unusual = [row[name] for name, usual in USUAL.items() if row[name] != usual]
    return ", ".join([row["model"], *unusual])


def _seconds(value: float) -> str:
    return f"{value:.3f} s"


def _rtfx(value: float) -> str:
    return f"RTFx {value:.1f}"


def _mib(value: float) -> str:
    return f"{value / MIB:,.0f} MiB"


def _beats(other: Row, row: Row, goals: Sequence[str]) -> bool:
    if other["status"] != "measured" or other["duration"] != row["duration"] or not goals:
        return False
    sides = [(other[goal], row[goal]) if GOALS[goal] else (-other[goal], -row[goal]) for goal in goals]
    return all(ours <= theirs for ours, theirs in sides) and any(ours < theirs for ours, theirs in sides)
