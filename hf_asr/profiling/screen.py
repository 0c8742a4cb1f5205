"""The profile's table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from hf_asr.profiling.rows import Row

MIB = 2**20


def table(rows: Sequence[Row]) -> Table:
    """Return the rows, one a line; why one has no measurement is told by :func:`missing`."""
    shown = Table(title="Profile: medians of n samples")
    for name in ("model", "variant", "device", "dtype"):
        shown.add_column(name, overflow="fold")
    names = ("clip s", "batch", "n", "latency s", "first token s", "token ms", "RTFx", "GFLOP", "needs MiB", "WER %")
    for name in names:
        shown.add_column(name, justify="right")
    shown.add_column("")
    for row in rows:
        shown.add_row(
            row["model"],
            row["variant"],
            row["device"],
            row["dtype"],
            f"{row['duration']:g}",
            str(row["batch_size"]),
            str(row["n"]),
            number(row["latency_seconds"], 3),
            number(row["time_to_first_token_seconds"], 3),
            number(row["per_token_seconds"], 1, 1000),
            number(row["rtfx"], 1),
            number(row["encoder_gflops"], 1),
            number(row["forecast_bytes"], 0, 1 / MIB),
            number(row["wer"], 1, 100),
            "" if row["status"] == "measured" else row["status"],
        )
    return shown


def missing(rows: Sequence[Row]) -> list[str]:
    """Return why cells have no measurement: a line for each model and reason, with its cells."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["status"] != "measured":
            reason = f"{row['status']}: {row['message'] or ''}"
            cells = reasons.setdefault((f"{row['model']} {row['variant']} {row['device']}", reason), [])
            cells.append(f"{row['duration']:g} s x {row['batch_size']}")
    return [f"{name}, {', '.join(cells)}: {reason}" for (name, reason), cells in reasons.items()]


def number(value: float | None, digits: int, factor: float = 1.0) -> str:
    """Return a number as a person reads it; a dash for none."""
    return "-" if value is None else f"{factor * value:,.{digits}f}"
