"""The ladder's table: for the screen, and as ladder.md, ladder.csv and ladder.json."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hf_asr.evaluation.ladder import Comparison, RunScores, compare, rate_of, units_of
from hf_asr.evaluation.spread import LEVEL, Estimate

MIB = 2**20
NONE = "-"
# Rates that are fractions; the others (rmse) have the unit of the labels.
FRACTIONS = ("wer", "cer", "accuracy")


@dataclass
class RowResult:
    """What is known of one row when the table is written.

    Attributes:
        name: Its name in the table.
        kind: ``untouched``, ``base``, ``alone`` or ``cumulative``.
        against: Name of the row it is compared with; empty for none.
        scores: Seed to scores of the runs that are done.
        resources: Seed to what training took (resources.json).
        failures: Seed to the last message of a run that failed.
        missing: Seeds that were not run yet.
    """

    name: str
    kind: str
    against: str = ""
    scores: dict[int, RunScores] = field(default_factory=dict)
    resources: dict[int, dict[str, Any]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class LadderTable:
    """The rows with what was computed from them.

    Attributes:
        name: The ladder's name.
        metric: What is compared.
        by: What was drawn for the intervals, ``speaker`` or ``utterance``.
        normalizer: Text pipeline of the scoring side.
        rows: The rows.
        rates: Row's name to its metric; rows without a finished run have none.
        comparisons: Row's name to its comparison; only rows that are compared have one.
        clips: Test clips.
    """

    name: str
    metric: str
    by: str
    normalizer: str
    rows: list[RowResult]
    rates: dict[str, Estimate]
    comparisons: dict[str, Comparison]
    clips: int


def build_table(name: str, rows: Sequence[RowResult], normalizer: str) -> LadderTable:
    """Compute the intervals and the comparisons of a ladder.

    Args:
        name: The ladder's name.
        rows: Its rows; those that are not done are told as such.
        normalizer: Text pipeline of the scoring side.
    """
    done = [row for row in rows if row.scores]
    by_name = {row.name: row for row in rows}
    compared = [row for row in rows if row.against]
    first = next(iter(done[0].scores.values())) if done else None
    comparisons = {
        row.name: compare(row.against, by_name[row.against].scores, row.scores, len(compared)) for row in compared
    }
    return LadderTable(
        name,
        first.metric if first else "wer",
        units_of(first)[1] if first else "utterance",
        normalizer,
        list(rows),
        {row.name: rate_of(list(row.scores.values())) for row in done},
        comparisons,
        len(first.ids) if first else 0,
    )


def how_it_was_made(table: LadderTable) -> list[str]:
    """Return the sentences that stand below the table: what its intervals are, and what a tie is."""
    number = len(table.comparisons)
    seeds = max((len(row.scores) for row in table.rows), default=0)
    level = 100 * (1 - (1 - LEVEL) / max(1, number))
    lines = [
        f"{table.metric.upper()}: mean over the seeds, on {table.clips:,} test clips, normalizer {table.normalizer}.",
        f"Intervals of a row are 95 %. They join two standard errors: drawing {table.by}s anew (bootstrap), and "
        "training with another seed (Student's t).",
        f"Differences are paired: seed by seed, on the same clips. With {number} comparisons their intervals are at "
        f"{level:.2f} % (Bonferroni), so that all of them hold together at 95 %. An interval that holds 0 is a tie: "
        "these runs do not tell the two apart.",
        "Time is that of the training steps, validation left out; memory is the largest resident size of the main "
        "process up to the end of training. Both are means over the seeds.",
    ]
    if seeds == 1:
        lines.insert(2, "With one seed nothing is known of another training: the intervals tell of the clips alone.")
    return lines


def cells(table: LadderTable, row: RowResult) -> dict[str, str]:
    """Return what the table shows of a row, by column."""
    comparison = table.comparisons.get(row.name)
    rate = table.rates.get(row.name)
    return {
        "row": row.name,
        table.metric.upper(): _with_interval(rate, table.metric, signed=False) if rate else NONE,
        "seeds": ", ".join(_shown(score.value, table.metric) for score in row.scores.values()) or NONE,
        "against": comparison.against if comparison else NONE,
        "difference": _with_interval(comparison.difference, table.metric, signed=True)
        if comparison and comparison.difference
        else NONE,
        "verdict": comparison.verdict if comparison and row.scores else NONE,
        "training": _mean(row, "train_seconds", " s", 1),
        "memory": _mean(row, "peak_rss_bytes", " MiB", MIB),
        "GPU memory": _mean(row, "peak_gpu_bytes", " MiB", MIB),
        "clips/s": _mean(row, "clips_per_second", "", 1),
        "joules": _mean(row, "joules", "", 1),
        "note": "; ".join(_notes(row)),
    }


def screen(table: LadderTable) -> Group:
    """Return the table for the console; columns that say nothing are left out, notes stand below it."""
    shown = _rows(table)
    columns = [column for column in shown[0] if column not in ("seeds", "note")]
    grid = Table(title=table.name)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in shown:
        grid.add_row(*(row[column] for column in columns))
    notes = [f"{row.name}: {'; '.join(_notes(row))}" for row in table.rows if _notes(row)]
    return Group(grid, *(Text(f"- {line}") for line in (*notes, *how_it_was_made(table))))


def markdown(table: LadderTable) -> str:
    """Return ladder.md."""
    shown = _rows(table)
    lines = [f"# {table.name}", "", _line(shown[0]), _line(["---"] * len(shown[0]))]
    lines += [_line(row.values()) for row in shown]
    lines += ["", *(f"- {sentence}" for sentence in how_it_was_made(table))]
    return "\n".join(lines) + "\n"


def as_csv(table: LadderTable) -> str:
    """Return ladder.csv: one line a run, numbers as they are, rates as fractions."""
    text = io.StringIO()
    columns = ("row", "kind", "seed", "metric", "value", *RESOURCES, "failure")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for seed in sorted({*row.scores, *row.failures, *row.missing}):
            values = {"row": row.name, "kind": row.kind, "seed": seed, "metric": table.metric}
            values |= {"value": row.scores[seed].value} if seed in row.scores else {}
            values |= {name: row.resources.get(seed, {}).get(name) for name in RESOURCES}
            writer.writerow(values | {"failure": row.failures.get(seed, "")})
    return text.getvalue()


def as_json(table: LadderTable) -> str:
    """Return ladder.json: everything, rates as fractions."""
    rows = [_row_as_json(table, row) for row in table.rows]
    about = {"name": table.name, "metric": table.metric, "normalizer": table.normalizer, "clips": table.clips}
    whole = about | {"interval_by": table.by, "how": how_it_was_made(table), "rows": rows}
    return json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


RESOURCES = ("train_seconds", "steps", "clips_per_second", "peak_rss_bytes", "peak_gpu_bytes", "joules", "joules_from")


def _row_as_json(table: LadderTable, row: RowResult) -> dict[str, Any]:
    rate, comparison = table.rates.get(row.name), table.comparisons.get(row.name)
    return {
        "name": row.name,
        "kind": row.kind,
        table.metric: asdict(rate) if rate else None,
        "values": {str(seed): score.value for seed, score in row.scores.items()},
        "comparison": asdict(comparison) if comparison else None,
        "resources": {str(seed): figures for seed, figures in row.resources.items()},
        "failures": {str(seed): message for seed, message in row.failures.items()},
        "missing": row.missing,
    }


def _rows(table: LadderTable) -> list[dict[str, str]]:
    """Return the cells of all rows without the columns in which no row says anything."""
    shown = [cells(table, row) for row in table.rows]
    said = [column for column in shown[0] if any(row[column] not in (NONE, "") for row in shown)]
    return [{column: row[column] for column in said} for row in shown]


def _line(items: Any) -> str:
    return "| " + " | ".join(str(item).replace("|", "\\|").replace("\n", " ") for item in items) + " |"


def _shown(value: float, metric: str, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f}" if metric in FRACTIONS else f"{value:{sign}.4g}"


def _with_interval(found: Estimate, metric: str, *, signed: bool) -> str:
    sign = "+" if signed else ""
    unit = "" if metric not in FRACTIONS else " points" if signed else " %"
    low, high = (_shown(end, metric, sign) for end in (found.low, found.high))
    return f"{_shown(found.value, metric, sign)}{unit} [{low}, {high}]"


def _mean(row: RowResult, name: str, unit: str, scale: float) -> str:
    values = [figures[name] / scale for figures in row.resources.values() if figures.get(name) is not None]
    if not values:
        return NONE
    mean = statistics.fmean(values)
    digits = 0 if mean >= 100 else 1 if mean >= 10 else 2
    return f"{mean:,.{digits}f}{unit}" if math.isfinite(mean) else NONE


def _notes(row: RowResult) -> list[str]:
    notes = []
    for message in dict.fromkeys(row.failures.values()):
        seeds = [str(seed) for seed, told in row.failures.items() if told == message]
        notes.append(f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)} failed: {message}")
    if row.missing:
        notes.append(f"not run yet: {', '.join(map(str, row.missing))}")
    parts = [seed for seed, figures in row.resources.items() if figures["steps"] < figures["steps_in_all"]]
    if parts:
        notes.append(f"interrupted once, its time is that of the last part: {', '.join(map(str, parts))}")
    return notes
