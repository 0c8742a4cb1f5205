"""Curves, roofline and trade-offs of a profile's page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from hf_asr.evaluation.page import columns, join
from hf_asr.evaluation.page_charts import NUMBER_OF_COLOURS
from hf_asr.profiling.charts import Point, Series, chart
from hf_asr.profiling.recommend import describe, name_of
from hf_asr.profiling.rows import Row
from hf_asr.profiling.screen import MIB

# Axis of each goal: its name with the unit, and the factor to it.
AXES = {
    "wer": ("WER, %", 100.0),
    "rtfx": ("RTFx", 1.0),
    "joules_per_clip": ("joules a clip", 1.0),
    "forecast_bytes": ("memory, MiB", 1 / MIB),
}


def scaling_charts(rows: Sequence[Row]) -> Markup:
    """Return RTFx over batch size by clip length, and latency over clip length by batch size; both with spread."""
    by_batch = _group(rows, lambda row: f"{name_of(row)}, {row['duration']:g} s")
    by_length = _group(rows, lambda row: f"{name_of(row)}, batch {row['batch_size']}")
    speed = [Series(name, [_rtfx(row) for row in _by(part, "batch_size")], joined=True) for name, part in by_batch]
    latency = [Series(name, [_latency(row) for row in _by(part, "duration")], joined=True) for name, part in by_length]
    parts = _curves(speed, "RTFx", "clips in a batch", log_x=True)
    return _beside(parts + _curves(latency, "Latency of a batch, seconds", "clip length, seconds", log_y=True))


def memory_charts(rows: Sequence[Row]) -> Markup:
    """Return the forecast of memory over batch size, by clip length; cells that do not fit among them."""
    known = [row for row in rows if row["forecast_bytes"]]
    groups = _group(known, lambda row: f"{name_of(row)}, {row['duration']:g} s")
    series = [Series(name, [_memory(row) for row in _by(part, "batch_size")], joined=True) for name, part in groups]
    return _beside(_curves(series, "Memory forecast, MiB", "clips in a batch", log_x=True))


def energy_charts(rows: Sequence[Row]) -> Markup:
    """Return joules a clip over batch size."""
    groups = _group(rows, lambda row: f"{name_of(row)}, {row['duration']:g} s")
    series = [
        Series(name, [Point(row["batch_size"], row["joules_per_clip"], describe(row)) for row in part], joined=True)
        for name, part in groups
    ]
    return chart(series, title="Joules a clip", x_label="clips in a batch", log_x=True)


def pareto_charts(rows: Sequence[Row], dominated: Sequence[bool], goals: Sequence[str]) -> Markup:
    """Return every goal against RTFx, and WER against memory, dominated cells grey.

    Args:
        rows: All rows.
        dominated: One value a row.
        goals: Goals that all measured rows have figures for.
    """
    pairs = [("rtfx", goal) for goal in goals if goal != "rtfx"]
    pairs += [("forecast_bytes", "wer")] if {"forecast_bytes", "wer"} <= set(goals) else []
    parts = []
    for duration in sorted({row["duration"] for row in rows}):
        chosen = [
            (row, faint)
            for row, faint in zip(rows, dominated, strict=True)
            if row["status"] == "measured" and row["duration"] == duration
        ]
        parts += [_pareto(chosen, duration, across, up) for across, up in pairs if chosen]
    return _beside(parts)


def roofline_charts(rows: Sequence[Row]) -> Markup:
    """Return a roofline for each device and dtype, with every cell's encoder and decoder step."""
    parts = []
    known = [row for row in rows if row["roof_flops_per_second"] and row["encoder_intensity"]]
    for name, part in _group(known, lambda row: f"{row['device_name']}, {row['dtype']}"):
        peak, bandwidth = part[0]["roof_flops_per_second"], part[0]["roof_bytes_per_second"]
        points = [*(_stage(part, "encoder")), *(_stage(part, "decoder"))]
        roof = Series(
            f"roof: {peak / 1e9:,.0f} GFLOP/s, {bandwidth / 1e9:,.1f} GB/s", _roof(peak, bandwidth, points), True, False
        )
        series = [roof, Series("encoder", _stage(part, "encoder")), Series("decoder step", _stage(part, "decoder"))]
        title = f"GFLOP/s reached on {name}"
        parts.append(chart(series, title=title, x_label="FLOPs a byte", log_x=True, log_y=True))
    return join(parts)


def _roof(peak: float, bandwidth: float, points: Sequence[Point]) -> list[Point]:
    ridge = peak / bandwidth
    places = [
        min([ridge / 10, *(point.x for point in points)]),
        ridge,
        max([ridge * 10, *(point.x for point in points)]),
    ]
    return [Point(place, min(peak, place * bandwidth) / 1e9, "roof") for place in places]


def _stage(rows: Iterable[Row], stage: str) -> list[Point]:
    return [
        Point(
            row[f"{stage}_intensity"],
            row[f"{stage}_flops_per_second"] / 1e9,
            f"{describe(row)}, {row['duration']:g} s: {row[f'{stage}_flops_per_second'] / 1e9:,.1f} GFLOP/s",
        )
        for row in rows
        if row[f"{stage}_intensity"] and row[f"{stage}_flops_per_second"]
    ]


def _pareto(chosen: Sequence[tuple[Row, bool]], duration: float, across: str, up: str) -> Markup:
    (x_name, x_factor), (y_name, y_factor) = AXES[across], AXES[up]
    points: dict[str, list[Point]] = {}
    for row, faint in chosen:
        told = f"{describe(row)}: {x_name} {x_factor * row[across]:.4g}, {y_name} {y_factor * row[up]:.4g}"
        interval = row["wer_interval"] if up == "wer" else None
        low, high = (None, None) if interval is None else (y_factor * interval[0], y_factor * interval[1])
        point = Point(x_factor * row[across], y_factor * row[up], told, low, high, faint)
        points.setdefault(row["model"], []).append(point)
    series = [Series(name, found) for name, found in points.items()]
    return chart(series, title=f"{y_name}, clips of {duration:g} s", x_label=x_name)


def _rtfx(row: Row) -> Point:
    low, high = row["latency_quartiles"]
    seconds = row["batch_size"] * row["duration"]
    told = f"{describe(row)}: RTFx {row['rtfx']:.2f}, n={row['n']}"
    return Point(row["batch_size"], row["rtfx"], told, seconds / high, seconds / low)


def _latency(row: Row) -> Point:
    low, high = row["latency_quartiles"]
    told = f"{describe(row)}: {row['latency_seconds']:.3f} s, n={row['n']}"
    return Point(row["duration"], row["latency_seconds"], told, low, high)


def _memory(row: Row) -> Point:
    mib = row["forecast_bytes"] / MIB
    fits = ", does not fit" if row["status"] == "oom" else ""
    return Point(row["batch_size"], mib, f"{describe(row)}: {mib:,.0f} MiB{fits}", faint=bool(fits))


def _curves(
    series: Sequence[Series], title: str, x_label: str, *, log_x: bool = False, log_y: bool = False
) -> list[Markup]:
    """Return a chart for as many series as the palette can tell apart; none where all points have one x."""
    if len({point.x for one in series for point in one.points}) < 2:
        return []
    parts = [series[start : start + NUMBER_OF_COLOURS] for start in range(0, len(series), NUMBER_OF_COLOURS)]
    return [chart(part, title=title, x_label=x_label, log_x=log_x, log_y=log_y) for part in parts]


def _beside(parts: Sequence[Markup]) -> Markup:
    return columns(parts, wide=True) if parts else Markup("")


def _group(rows: Iterable[Row], name: Callable[[Row], str]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    return list(groups.items())


def _by(rows: Sequence[Row], field: str) -> list[Row]:
    return sorted(rows, key=lambda row: float(row[field]))
