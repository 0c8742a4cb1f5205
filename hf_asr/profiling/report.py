"""profile.json, profile.csv and report.html of a profile's rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hf_asr.evaluation.page import (
    Section,
    Tile,
    details,
    facts,
    join,
    note,
    paragraph,
    render_page,
    stacked_bars,
    table,
    tiles,
)
from hf_asr.evaluation.page_charts import NUMBER_OF_COLOURS
from hf_asr.files import write_whole
from hf_asr.profiling.log import GridLog
from hf_asr.profiling.recommend import GOALS, USUAL, comparable, describe, dominated, name_of, recommendations
from hf_asr.profiling.report_charts import (
    AXES,
    energy_charts,
    memory_charts,
    pareto_charts,
    roofline_charts,
    scaling_charts,
)
from hf_asr.profiling.rows import FIELDS, NO_WER, Row
from hf_asr.profiling.screen import MIB, number

STAGES = ("decode_audio", "features", "encoder", "first_token", "detokenise")


def write_report(rows: Sequence[Row], folder: Path, log: GridLog, machine: Mapping[str, Any]) -> None:
    """Write the three files, each whole or not at all.

    Args:
        rows: From ``build_rows``.
        folder: Where they go.
        log: The grid's records, for operators and training steps.
        machine: What the measurements were made on.
    """
    write_whole(folder / "profile.json", json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(folder / "profile.csv", as_csv(rows))
    write_whole(folder / "report.html", page(rows, log.records, machine))


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV; lists and objects as JSON."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(FIELDS))
    writer.writeheader()
    for row in rows:
        writer.writerow({name: json.dumps(v) if isinstance(v, list | dict) else v for name, v in row.items()})
    return text.getvalue()


def page(rows: Sequence[Row], records: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        rows: The rows.
        records: The grid's records.
        machine: ``threads``, ``tokens``, ``torch`` and names of devices.
    """
    measured = [row for row in rows if row["status"] == "measured"]
    sections = [
        Section("advice", "What to take", _advice(rows), "Derived from the rows that each sentence names."),
        Section("rows", "All cells", _cells(rows), _cells_lead(rows)),
        Section("latency", "Where the latency goes", _latency(measured)),
        Section("scaling", "Batch and clip length", scaling_charts(measured), "Whiskers: first and third quartile."),
        Section("pareto", "Trade-offs", _pareto(rows), _pareto_lead(rows)),
        Section("roofline", "Roofline", _roofline(measured), ROOFLINE_LEAD),
        Section("flops", "FLOPs", _flops(measured), "FLOPs, not MACs: a multiply-add counts as two."),
        Section("memory", "Memory", _memory(rows), MEMORY_LEAD),
        Section("energy", "Energy", _energy(measured)),
        Section("words", "Words", _words(measured), "One normaliser for all; intervals by bootstrap."),
        Section("operators", "Operators", _operators(records)),
        Section("training", "Training step", _training(records)),
        Section("machine", "Machine and conditions", facts(_conditions(rows, machine))),
    ]
    models = ", ".join(dict.fromkeys(row["model"] for row in rows))
    return render_page(
        "Profile",
        sections,
        eyebrow="hf_asr profile",
        subtitle=models,
        hero=_hero(rows, measured),
        footer="Made by hf-asr profile from profile.json beside it.",
    )


ROOFLINE_LEAD = (
    "Reached FLOP/s over FLOPs a byte, below what a large matrix product and a large copy reach here. Bytes are the "
    "least that must move (weights once, states or cached keys and values), so points stand at most this far right. "
    "The roof was measured once, before the cells: a point above it tells of a machine that was slower then, or of "
    "arithmetic in another type (int8)."
)
MEMORY_LEAD = (
    "Forecast from shapes: weights, the encoder's fullest moment, keys and values. The peak is CUDA's count, or on a "
    "CPU the resident memory of the whole process, libraries and earlier cells included."
)


def _hero(rows: Sequence[Row], measured: Sequence[Row]) -> Markup:
    if not measured:
        return Markup("")
    fastest, quickest = (
        max(measured, key=lambda row: row["rtfx"]),
        min(measured, key=lambda row: row["latency_seconds"]),
    )
    return tiles(
        [
            Tile("highest RTFx", number(fastest["rtfx"], 1), f"{describe(fastest)}, {fastest['duration']:g} s"),
            Tile(
                "lowest latency",
                f"{quickest['latency_seconds']:.3f} s",
                f"{describe(quickest)}, {quickest['duration']:g} s",
            ),
            Tile(
                "cells measured", f"{len(measured)} of {len(rows)}", _counted(len({row["model"] for row in measured}))
            ),
        ]
    )


def _counted(models: int) -> str:
    return "1 model" if models == 1 else f"{models} models"


def _advice(rows: Sequence[Row]) -> Markup:
    lines = [
        [advice.need, advice.text, ", ".join(map(str, dict.fromkeys(advice.rows)))] for advice in recommendations(rows)
    ]
    return table(["need", "take", "rows"], lines) if lines else Markup("")


def _cells(rows: Sequence[Row]) -> Markup:
    head = ["", *(name for name, _ in _names(rows)), "clip s", "batch", "n", "latency s", "quartiles", "RTFx"]
    head += ["clips/s", "scaling", "first token s", "ms/token"]
    body = [
        [place, *(row[field] for _, field in _names(rows)), *_figures(row)]
        for place, row in enumerate(rows, start=1)
        if row["status"] == "measured"
    ]
    names = len(_names(rows))
    return join([table(head, body, numbers=[0, *range(names + 1, len(head))]), _missing(rows)])


def _cells_lead(rows: Sequence[Row]) -> str:
    shown = {field for _, field in _names(rows)}
    same = [f"{name} {rows[0][name]}" for name in USUAL if rows and name not in shown]
    lead = "Medians; the number in front is what other sections refer to."
    return f"{lead} All of them: {', '.join(same)}." if same else lead


def _names(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the columns that name a row, heading and field: those that are the same everywhere are left out."""
    said = [name for name in ("variant", "device", "dtype") if len({row[name] for row in rows}) > 1]
    return [(name, name) for name in ("model", *said)]


def _figures(row: Row) -> list[Any]:
    quartiles = "" if row["n"] < 2 else " to ".join(number(value, 3) for value in row["latency_quartiles"])
    token = None if row["per_token_seconds"] is None else 1000 * row["per_token_seconds"]
    before = ("duration", "batch_size", "n", "latency_seconds")
    after = ("rtfx", "samples_per_second", "scaling_factor", "time_to_first_token_seconds")
    return [*(row[name] for name in before), quartiles, *(row[name] for name in after), token]


def _missing(rows: Sequence[Row]) -> Markup:
    """Return the cells without a measurement, those of one reason together, and what long clips were made of."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["status"] != "measured":
            found = reasons.setdefault((name_of(row), f"{row['status']}: {row['message'] or ''}"), [])
            found.append(f"{row['duration']:g} s x {row['batch_size']}")
    body = [[name, ", ".join(cells), reason] for (name, reason), cells in reasons.items()]
    parts = [table(["model", "clips x batch", "why"], body, caption="Not measured")] if body else []
    parts += [note(text) for text in dict.fromkeys(row["long_form"] for row in rows if row["long_form"])]
    return join(parts)


def _latency(rows: Sequence[Row]) -> Markup:
    if not rows:
        return Markup("")
    parts = []
    for duration in sorted({row["duration"] for row in rows}):
        chosen = [row for row in rows if row["duration"] == duration]
        smallest = min(row["batch_size"] for row in chosen)
        bars = [(name_of(row), _stages(row)) for row in chosen if row["batch_size"] == smallest]
        names = [*(stage.replace("_", " ") for stage in STAGES), "further tokens"]
        title = f"Seconds of a batch of {smallest}, clips of {duration:g} s"
        parts.append(stacked_bars(bars, series=names, title=title, format=_seconds))
    told = [row for row in rows if row["latency_percentiles"]]
    head = ["model", "variant", "device", "clip s", "n", *(told[0]["latency_percentiles"] if told else [])]
    body = [
        [row["model"], row["variant"], row["device"], row["duration"], row["n"], *row["latency_percentiles"].values()]
        for row in told
    ]
    parts.append(
        table(head, body, numbers=range(3, len(head)), caption="Latency of batch 1, seconds") if told else Markup("")
    )
    return join(parts)


def _stages(row: Row) -> list[float]:
    stages = [row[f"{stage}_seconds"] or 0.0 for stage in STAGES]
    return [*stages, max(0.0, row["latency_seconds"] - sum(stages))]


def _pareto(rows: Sequence[Row]) -> Markup:
    return pareto_charts(rows, dominated(rows), comparable(rows))


def _pareto_lead(rows: Sequence[Row]) -> str:
    goals = comparable(rows)
    missing = [AXES[goal][0] for goal in GOALS if goal not in goals]
    lead = "Grey: another cell of the same clip length is at least as good in every goal shown, and better in one."
    return f"{lead} Without figures for all cells: {', '.join(missing)}." if missing else lead


def _roofline(rows: Sequence[Row]) -> Markup:
    return roofline_charts(rows)


def _flops(rows: Sequence[Row]) -> Markup:
    seen: dict[tuple[str, float], Row] = {}
    for row in rows:
        seen.setdefault((row["model"], row["duration"]), row)
    head = ["model", "clip s", "windows", "encoder", "counted", "cross keys, values", "decoder step", "counted", "head"]
    fields = [
        *("encoder_gflops", "encoder_gflops_counted", "cross_kv_gflops", "decoder_step_gflops"),
        *("decoder_step_gflops_counted", "head_gflops"),
    ]
    body = [[row["model"], row["duration"], row["windows"], *(row[name] for name in fields)] for row in seen.values()]
    return (
        table(head, body, numbers=range(1, 9), caption="10^9 FLOPs a clip (decoder: a token)") if body else Markup("")
    )


def _memory(rows: Sequence[Row]) -> Markup:
    head = ["model", "variant", "device", "clip s", "batch", "weights", "activations", "keys, values", "forecast"]
    head += ["peak", "largest batch", ""]
    names = ("weight_bytes", "activation_bytes", "kv_cache_bytes", "forecast_bytes", "peak_bytes")
    body = [
        [
            *(row[name] for name in ("model", "variant", "device", "duration", "batch_size")),
            *(None if row[name] is None else row[name] / MIB for name in names),
            row["largest_batch"],
            "does not fit" if row["status"] == "oom" else "",
        ]
        for row in rows
        if row["forecast_bytes"] is not None
    ]
    return memory_charts(rows) + table(head, body, numbers=range(3, 11), caption="MiB") if body else Markup("")


def _energy(rows: Sequence[Row]) -> Markup:
    told = [row for row in rows if row["joules"] is not None]
    if not told:
        sources = dict.fromkeys(row["energy_source"] for row in rows if row["energy_source"])
        return note(f"No joules: {'; '.join(sources)}.") if sources else Markup("")
    estimated = any(row["energy_is_estimate"] for row in told)
    warning = paragraph("Estimated, not measured: a constant multiplied by time.") if estimated else Markup("")
    head = [
        "model",
        "variant",
        "device",
        "clip s",
        "batch",
        "J a batch",
        "J a clip",
        "with idle",
        "idle W",
        "g CO2",
        "from",
    ]
    names = [
        *("model", "variant", "device", "duration", "batch_size", "joules", "joules_per_clip", "gross_joules"),
        *("idle_watts", "grams_co2", "energy_source"),
    ]
    body = [[row[name] for name in names] for row in told]
    return warning + energy_charts(told) + table(head, body, numbers=range(3, 10))


def _words(rows: Sequence[Row]) -> Markup:
    seen: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row["wer"] is not None:
            seen.setdefault(tuple(row[name] for name in ("model", "variant", "device", "dtype", "duration")), row)
    without = [
        f"{name_of(row)}, {row['duration']:g} s: {row['message']}"
        for row in rows
        if row["message"] and row["message"].startswith(NO_WER)
    ]
    notes = join(note(text) for text in dict.fromkeys(without))
    if not seen:
        return notes
    head = ["model", "variant", "device", "clip s", "clips", "WER %", "95 %", "CER %", "95 %", "by", "normaliser"]
    body = [
        [
            *(row[name] for name in ("model", "variant", "device", "duration", "wer_clips")),
            100 * row["wer"],
            _interval(row["wer_interval"]),
            100 * row["cer"],
            _interval(row["cer_interval"]),
            row["wer_interval_by"],
            row["normalizer"],
        ]
        for row in seen.values()
    ]
    return table(head, body, numbers=range(3, 9)) + notes


def _operators(records: Sequence[Mapping[str, Any]]) -> Markup:
    found = [record for record in records if record["kind"] == "operators"]
    measured = [record for record in found if "table" in record]
    shares = [_shares(measured, "groups", "the CPU"), _shares(measured, "device_groups", "the CUDA device")]
    slowest = [
        [record["cell"].replace("|", " "), module["module"], module["class"], 100 * module["share"]]
        for record in measured
        for module in record["table"]["modules"]
        if module["share"] >= 0.001
    ]
    modules = table(["cell", "module", "class", "per cent"], slowest, numbers=[3])
    title = "Modules by the time in none of torch's operators: Python, hooks, waiting"
    without = [note(f"{_said(record['key'])}: {record['message']}.") for record in found if "table" not in record]
    return join([*shares, details(title, modules) if slowest else Markup(""), *without])


def _shares(records: Sequence[Mapping[str, Any]], field: str, where: str) -> Markup:
    """Return the shares of groups in each cell's time; what the palette has no colour for is added up."""
    tables = [(record["cell"], record["table"].get(field) or {}) for record in records]
    tables = [(cell, groups) for cell, groups in tables if groups]
    largest: dict[str, float] = {}
    for name, share in (pair for _, groups in tables for pair in groups.items()):
        largest[name] = max(share, largest.get(name, 0.0))
    told = sorted(largest, key=lambda name: -largest[name])
    shown = told if len(told) <= NUMBER_OF_COLOURS else told[: NUMBER_OF_COLOURS - 1]
    parts = [[name] for name in shown] + ([told[len(shown) :]] if len(shown) < len(told) else [])
    names = [part[0] if len(part) == 1 else "all others" for part in parts]
    bars = [(_said(cell), [100 * sum(groups.get(n, 0.0) for n in part) for part in parts]) for cell, groups in tables]
    title = f"Share of the time on {where}, per cent"
    return stacked_bars(bars, series=names, title=title, format=_per_cent) if bars else Markup("")


def _said(key: str) -> str:
    """Return the key of a group or a cell for a reader, without what is usual."""
    model, variant, device, dtype, *cell = key.split("|")
    return ", ".join([name_of({"model": model, "variant": variant, "device": device, "dtype": dtype}), *cell[:1]])


def _conditions(rows: Sequence[Row], machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    paces: dict[str, list[float]] = {}
    for row in rows:
        if row["pace_seconds"]:
            paces.setdefault(row["device"], []).append(row["pace_seconds"])
    told = [
        (f"pace of {device}: a fixed product beside the samples", f"{min(pace):.4f} to {max(pace):.4f} s by cell")
        for device, pace in paces.items()
    ]
    return [(name, str(value)) for name, value in machine.items()] + told


def _training(records: Sequence[Mapping[str, Any]]) -> Markup:
    found = [record for record in records if record["kind"] == "train" and "step_seconds" in record]
    if not found:
        return Markup("")
    parts = ("loader_wait", "forward", "backward", "optimiser")
    bars = [(record["key"].replace("|", " "), [record[f"{part}_seconds"] for part in parts]) for record in found]
    names = [part.replace("_", " ") for part in parts]
    return stacked_bars(bars, series=names, title="Seconds of an optimiser step (medians)", format=_seconds)


def _interval(ends: Sequence[float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def _seconds(value: float) -> str:
    return f"{value:.3f} s"


def _per_cent(value: float) -> str:
    return f"{value:.1f} %"
