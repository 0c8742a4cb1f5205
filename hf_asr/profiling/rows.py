"""The rows of profile.json: their fields, what each means, and how they are made of the grid's samples."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hf_asr.profiling.log import Cell, GridLog
from hf_asr.profiling.meter import SHORTEST, Meter, grams_of_co2
from hf_asr.profiling.roofline import Roof, median_and_quartiles

Row = dict[str, Any]

# Percentiles of fewer samples are those of the same few values.
ENOUGH_FOR_PERCENTILES = 5
PERCENTILES = (50, 90, 95, 99)
# Begins the message of a row that was measured, but not scored.
NO_WER = "no WER"


class Field(NamedTuple):
    """A field of a row.

    Attributes:
        type: JSON Schema type; null is allowed everywhere but in the names of a cell.
        meaning: What it is, with its unit.
    """

    type: str
    meaning: str


NAMES: Mapping[str, Field] = {
    "model": Field("string", "As given to `--model`."),
    "duration": Field("number", "Length of each clip, seconds."),
    "batch_size": Field("integer", "Clips run together."),
    "device": Field("string", "`cpu` or `cuda`."),
    "dtype": Field("string", "Type of the weights."),
    "variant": Field("string", "How the model is run, see `--variants`."),
    "status": Field("string", "`measured`, `oom`, `not_available`, `failed` or `unfinished`."),
}
FIELDS: Mapping[str, Field] = {
    **NAMES,
    "message": Field("string", "Why there is no measurement, or no WER where one was asked for."),
    "family": Field("string", "The model's family."),
    "device_name": Field("string", "The processor or card."),
    "threads": Field("integer", "Threads of the CPU."),
    "tokens": Field("integer", "Tokens that a decoder was made to write, a window."),
    "windows": Field("integer", "Windows that a clip takes, one after the other."),
    "long_form": Field("string", "What was done with a clip beyond the window."),
    "n": Field("integer", "Samples; below three where three would have taken over four times `--cell-seconds`."),
    "encoder_gflops": Field("number", "FLOPs (not MACs) of the encoder, a clip, attention included, in 10^9."),
    "cross_kv_gflops": Field("number", "Keys and values of cross-attention, once a clip, in 10^9 FLOPs."),
    "decoder_step_gflops": Field("number", "The first token, cross-attention cached, head included, in 10^9 FLOPs."),
    "head_gflops": Field("number", "A CTC head over all states, a clip, in 10^9 FLOPs."),
    "encoder_gflops_counted": Field("number", "`encoder_gflops` as torch counts it under the math kernel."),
    "decoder_step_gflops_counted": Field("number", "`decoder_step_gflops` as torch counts it."),
    "gflops_from": Field("string", "`formula`, or `counted` where this architecture has none."),
    "latency_seconds": Field("number", "A whole batch from encoded audio to text: the median."),
    "latency_quartiles": Field("array", "First and third quartile of it."),
    "latency_range": Field("array", "The fastest and the slowest sample."),
    "latency_percentiles": Field("object", "Percentiles for batch 1, of five samples or more."),
    "decode_audio_seconds": Field("number", "FLAC to samples, the batch (median, as all of these)."),
    "features_seconds": Field("number", "Samples to the encoder's input, on the device."),
    "encoder_seconds": Field("number", "The encoder; with a CTC model its head too."),
    "first_token_seconds": Field("number", "The first token of every window, keys and values of cross-attention too."),
    "per_token_seconds": Field("number", "Each further token of the batch."),
    "detokenise_seconds": Field("number", "Token ids to text."),
    "time_to_first_token_seconds": Field("number", "From encoded audio to the first token."),
    "rtfx": Field("number", "Seconds of audio in a second."),
    "samples_per_second": Field("number", "Clips in a second."),
    "scaling_factor": Field("number", "`samples_per_second` over that of the smallest batch measured."),
    "pace_seconds": Field("number", "A fixed matrix product beside each sample: how fast the machine was meanwhile."),
    "pace_quartiles": Field("array", "First and third quartile of it."),
    "weight_bytes": Field("integer", "Parameters and buffers in this dtype."),
    "activation_bytes": Field("integer", "Most bytes alive at once in the encoder, the batch, counted from shapes."),
    "kv_cache_bytes": Field("integer", "Keys and values after `tokens` tokens, the batch."),
    "forecast_bytes": Field("integer", "What the cell was forecast to need, weights included."),
    "free_bytes": Field("integer", "What the device had free (or `--memory-limit`)."),
    "largest_batch": Field("integer", "The largest batch that fits there by the forecast."),
    "peak_bytes": Field("integer", "CUDA: allocated at most; CPU: resident memory of the whole process at most."),
    "joules": Field("number", "A batch, idle power subtracted."),
    "joules_per_clip": Field("number", "The same, a clip."),
    "gross_joules": Field("number", "A batch, idle power included."),
    "idle_watts": Field("number", "Power of the machine before the grid began."),
    "energy_source": Field("string", "The counters, or `none`."),
    "energy_is_estimate": Field("boolean", "Whether joules are a constant multiplied by time."),
    "grams_co2": Field("number", "Of a batch, at `--grid-grams`."),
    "encoder_flops_per_second": Field("number", "Reached by the encoder."),
    "decoder_flops_per_second": Field("number", "Reached by the tokens after the first."),
    "encoder_bytes_moved": Field("integer", "Least bytes the encoder moves for a batch: weights once, states."),
    "decoder_bytes_moved": Field("integer", "Least bytes a token of the batch moves: weights, cached keys, values."),
    "encoder_intensity": Field("number", "FLOPs a byte of `encoder_bytes_moved`."),
    "decoder_intensity": Field("number", "FLOPs a byte of `decoder_bytes_moved`."),
    "roof_flops_per_second": Field("number", "Of a large matrix product on this device in this dtype."),
    "roof_bytes_per_second": Field("number", "Of a large copy on this device, read and written."),
    "wer": Field("number", "Word error rate of the clips of this length, freely decoded; a fraction."),
    "wer_interval": Field("array", "Its 95 % interval."),
    "wer_interval_by": Field("string", "What was drawn: `speaker` or `utterance`."),
    "cer": Field("number", "Character error rate."),
    "cer_interval": Field("array", "Its 95 % interval."),
    "normalizer": Field("string", "Text pipeline of both sides."),
    "num_words": Field("integer", "Reference words."),
    "wer_clips": Field("integer", "Clips scored."),
    "operators": Field("object", "Shares of the time on the CPU by group, where this cell was profiled."),
    "device_operators": Field("object", "The same on the CUDA device; empty without one."),
}
STAGES = ("decode_audio", "features", "encoder", "first_token", "detokenise")


def build_rows(
    log: GridLog,
    cells: Iterable[Cell],
    *,
    machine: Mapping[str, Any],
    meters: Mapping[str, Meter],
    roofs: Mapping[tuple[str, str], Roof],
    grams_per_kwh: float | None,
) -> list[Row]:
    """Return one row a cell, every field in every row, null where there is nothing to tell.

    Args:
        log: The grid's records.
        cells: All cells, in the report's order.
        machine: ``threads``, ``tokens``, ``cpu`` and ``cuda`` (names of the devices).
        meters: What counted energy, by device.
        roofs: What the machine reaches, by device and dtype.
        grams_per_kwh: Carbon of the grid's electricity; None tells none.
    """
    rows = [_row(log, cell, machine, meters[cell.group.device], grams_per_kwh) for cell in cells]
    for row in rows:
        _add_roof(row, roofs.get((row["device"], row["dtype"])))
    _add_scaling(rows)
    return rows


def _row(log: GridLog, cell: Cell, machine: Mapping[str, Any], meter: Meter, grams: float | None) -> Row:
    group, samples = cell.group, log.of("sample", cell.key)
    facts = log.last("facts", cell.key) or {"status": "unfinished", "message": "not reached yet"}
    row: Row = dict.fromkeys(FIELDS)
    row |= {name: value for name, value in facts.items() if name in FIELDS}
    row |= {"model": group.model, "duration": cell.duration, "batch_size": cell.batch_size, "device": group.device}
    row |= {"dtype": group.dtype, "variant": group.variant, "n": len(samples), "tokens": machine["tokens"]}
    row |= {"threads": machine["threads"], "device_name": machine[group.device]}
    row["status"] = facts["status"] or ("measured" if samples else "unfinished")
    row["message"] = facts["message"] or (None if samples else "not reached yet")
    if (row["windows"] or 1) > 1:
        row["long_form"] = (
            f"{row['windows']} windows one after the other, {machine['tokens']} tokens each; "
            "WER: as hf-asr transcribe decodes long files"
        )
    if not samples or facts["status"]:
        return row
    row |= timings(samples, cell, machine["tokens"], row["windows"] or 1, has_decoder=bool(row["decoder_step_gflops"]))
    row |= energy(samples, cell.batch_size, meter, grams)
    row["peak_bytes"] = max(sample["peak_bytes"] for sample in samples)
    quality = log.last("quality", f"{group.key}|{cell.duration:g}s") or {}
    row |= {name: value for name, value in quality.items() if name in FIELDS and name != "message"}
    if quality.get("message"):
        row["message"] = f"{NO_WER}: {quality['message']}"
    operators = log.last("operators", group.key)
    if operators and operators.get("cell") == cell.key:
        row["operators"] = operators["table"]["groups"]
        row["device_operators"] = operators["table"]["device_groups"]
    return row


def timings(samples: Sequence[Mapping[str, Any]], cell: Cell, tokens: int, windows: int, *, has_decoder: bool) -> Row:
    """Return the medians of a cell's samples, and what follows from them."""
    totals = [sample["total_seconds"] for sample in samples]
    median, quartiles = median_and_quartiles(totals)
    row: Row = {"latency_seconds": median, "latency_quartiles": quartiles, "latency_range": [min(totals), max(totals)]}
    paces = [sample["pace_seconds"] for sample in samples if sample.get("pace_seconds")]
    row["pace_seconds"], row["pace_quartiles"] = median_and_quartiles(paces) if paces else (None, None)
    row |= {f"{stage}_seconds": _median(sample["laps"].get(stage) for sample in samples) for stage in STAGES}
    rest = _median(sample["laps"].get("tokens") for sample in samples)
    if has_decoder and rest is not None and tokens > 1:
        row["per_token_seconds"] = rest / (windows * (tokens - 1))
    row["time_to_first_token_seconds"] = _median(sample["first_token_seconds"] for sample in samples)
    row["rtfx"] = cell.batch_size * cell.duration / median
    row["samples_per_second"] = cell.batch_size / median
    if cell.batch_size == 1 and len(samples) >= ENOUGH_FOR_PERCENTILES:
        row["latency_percentiles"] = percentiles(totals)
    return row


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of values, by name (``p50``)."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {f"p{place}": cuts[place - 1] for place in PERCENTILES}


def energy(samples: Sequence[Mapping[str, Any]], batch_size: int, meter: Meter, grams: float | None) -> Row:
    """Return the joules of a batch: all samples' together, divided; none where they are too short to be counted."""
    row: Row = {"energy_source": meter.source, "idle_watts": meter.idle_watts, "energy_is_estimate": meter.estimated}
    told = [sample for sample in samples if sample["joules"] is not None]
    if not told or len(told) < len(samples):
        return row
    if sum(sample["metered_seconds"] for sample in told) < SHORTEST:
        row["energy_source"] = f"{meter.source} (too short a cell for them)"
        return row
    row["joules"] = sum(sample["joules"] for sample in told) / len(told)
    row["gross_joules"] = sum(sample["gross_joules"] for sample in told) / len(told)
    row["joules_per_clip"] = row["joules"] / batch_size
    row["grams_co2"] = None if grams is None else grams_of_co2(row["joules"], grams)
    return row


def _add_roof(row: Row, roof: Roof | None) -> None:
    if roof is None or row["status"] != "measured" or row["encoder_seconds"] is None:
        return
    row |= {"roof_flops_per_second": roof.flops_per_second, "roof_bytes_per_second": roof.bytes_per_second}
    batch, windows = row["batch_size"], row["windows"]
    encoder = 1e9 * batch * (row["encoder_gflops"] + (row["head_gflops"] or 0.0))
    row["encoder_flops_per_second"] = encoder / row["encoder_seconds"]
    if row["encoder_bytes_moved"]:
        row["encoder_intensity"] = encoder / windows / row["encoder_bytes_moved"]
    if row["per_token_seconds"] and row["decoder_bytes_moved"]:
        step = 1e9 * batch * row["decoder_step_gflops"]
        row["decoder_flops_per_second"] = step / row["per_token_seconds"]
        row["decoder_intensity"] = step / row["decoder_bytes_moved"]


def _add_scaling(rows: Sequence[Row]) -> None:
    names = ("model", "variant", "device", "dtype", "duration")
    smallest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        if row["samples_per_second"] and row["batch_size"] < smallest.get(key, {"batch_size": 10**9})["batch_size"]:
            smallest[key] = row
    for row in rows:
        if row["samples_per_second"]:
            first = smallest[tuple(row[name] for name in names)]
            row["scaling_factor"] = row["samples_per_second"] / first["samples_per_second"]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def schema() -> dict[str, Any]:
    """Return the JSON Schema of profile.json."""
    properties = {
        name: {"type": field.type if name in NAMES else [field.type, "null"], "description": field.meaning}
        for name, field in FIELDS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "profile.json of hf-asr profile",
        "type": "array",
        "items": {
            "type": "object",
            "properties": properties,
            "required": list(FIELDS),
            "additionalProperties": False,
        },
    }


def schema_table() -> str:
    """Return the fields as a Markdown table, for the documentation."""
    lines = [f"| `{name}` | {field.type} | {field.meaning} |" for name, field in FIELDS.items()]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *lines]) + "\n"
