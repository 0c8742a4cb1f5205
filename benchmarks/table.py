"""Write the tables of docs/performance.md from docs/benchmarks.json.

python benchmarks/table.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from run import BATCH, LARGER, ROWS, below, on_cpu

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- rows: written by benchmarks/table.py -->", "<!-- end of rows -->"
MISSING = "not measured"


def number(value: float | None) -> str:
    """Return three digits of a number, whole ones from 1,000 on."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def bar_of(name: str, row: Mapping[str, Any] | None = None) -> str:
    """Return what a row is to reach, in words, and by how much it misses it."""
    bar = ROWS[name][1]
    if bar is None:
        return "none"
    words = f"at most {bar:g}" if name == "padding" else f"{bar:g}"
    if row is None or not below(row, bar):
        return words
    found = row["ours"] if row["ratio"] is None else row["ratio"]
    return f"{words}, missed by {abs(found - bar):.2g}"


def line(name: str, row: Mapping[str, Any] | None, bar: str) -> str:
    """Return a row of the table; one that is not there is said to be missing."""
    if row is None:
        return f"| `{name}` | {MISSING} | | | {bar} | |"
    ratio = "" if row["ratio"] is None else f"**{row['ratio']:.2f}**"
    beside = "; ".join(f"{side}: {number(found['ratio'])}" for side, found in row.get("beside", {}).items())
    note = "; ".join(part for part in (row["unit"], row.get("window", ""), beside and f"ratio of {beside}") if part)
    return f"| `{name}` | {number(row['stock'])} | {number(row['ours'])} | {ratio} | {bar} | {note} |"


def clock_of(machine: Mapping[str, Any]) -> str:
    """Return which time was measured, and whether other programs had a share of the cores."""
    shared = machine.get("load_average", 0) > machine["threads"] + 0.5
    clock = f"{machine.get('clock', 'wall')}".removesuffix(" time") + " time"
    return f"{clock}, on a machine that other programs shared" if shared else clock


def hardware_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one line for each machine, speech and number of rounds that rows were measured with."""
    found: dict[str, list[str]] = {}
    for row in rows:
        machine = row["hardware"]
        threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
        text = (
            f"{machine['device']}, {machine['cores']} cores, {threads}, {machine['dtype']}, torch {machine['torch']}; "
            f"{clock_of(machine)}; speech: {row['speech']}; rounds: {row['rounds']}"
        )
        found.setdefault(text, []).append(f"`{row['name']}`")
    return [f"- {', '.join(names)}: {text}" for text, names in found.items()]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of all rows, CPU first, then CUDA, and what they were measured on."""
    header = ["| row | stock | ours | ratio | bar | unit, window, beside |", "|---|---|---|---|---|---|"]
    lines = ["## On a CPU", "", *header]
    of_cpu = {row["name"]: row for row in rows if on_cpu(row)}
    of_gpu = {row["name"]: row for row in rows if not on_cpu(row)}
    lines += [line(name, of_cpu.get(name), bar_of(name, of_cpu.get(name))) for name in ROWS]
    larger = [f"{name}_{size}" for size in BATCH if size != "tiny" for name in LARGER]
    lines += [line(name, of_cpu.get(name), "none") for name in larger if name in of_cpu or name.endswith("_small")]
    lines += ["", *hardware_of(list(of_cpu.values())), "", "## On a GPU", ""]
    lines += [*header, *(line(name, row, "none") for name, row in of_gpu.items())] if of_gpu else ["Not measured."]
    return "\n".join([*lines, *(["", *hardware_of(list(of_gpu.values()))] if of_gpu else [])])


def render(page: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page with its tables written anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}"


def main() -> None:
    """Write the page."""
    path = DOCS / "performance.md"
    rows = json.loads((DOCS / "benchmarks.json").read_text("utf-8"))
    path.write_text(render(path.read_text("utf-8"), rows), "utf-8")


if __name__ == "__main__":
    main()
