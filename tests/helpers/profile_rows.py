"""Rows of a profile, made by hand."""

from __future__ import annotations

from typing import Any

from hf_asr.profiling.rows import FIELDS, NAMES, Row

MACHINE = {"threads": 2, "tokens": 32, "torch": "2", "cpu": "a <processor>"}


def row(model: str, latency: float, batch_size: int = 1, **more: Any) -> Row:
    """Return a measured row of clips of 10 s."""
    made: Row = dict.fromkeys(FIELDS)
    made |= {"model": model, "duration": 10.0, "batch_size": batch_size, "device": "cpu", "dtype": "float32"}
    made |= {"variant": "sdpa", "status": "measured", "n": 5, "latency_seconds": latency, "windows": 1}
    made |= {"latency_quartiles": [0.95 * latency, 1.05 * latency], "latency_range": [0.9 * latency, 1.1 * latency]}
    made |= {"rtfx": 10 * batch_size / latency}
    made |= {"samples_per_second": batch_size / latency, "scaling_factor": 1.0, "encoder_seconds": latency / 2}
    made |= {"forecast_bytes": 2**20 * batch_size, "encoder_gflops": 5.0, "encoder_intensity": 30.0}
    made |= {"roof_flops_per_second": 5e10, "roof_bytes_per_second": 1e10, "encoder_flops_per_second": 2e10}
    return made | {"device_name": "a <processor>", "energy_source": "none: nothing counts", **more}


def refused(status: str = "oom") -> Row:
    """Return a row without a measurement."""
    made: Row = dict.fromkeys(FIELDS)
    return made | {**{name: row("big", 1.0)[name] for name in NAMES}, "status": status, "message": "too big", "n": 0}


ROWS = [
    row("small", 1.0, wer=0.30, wer_interval=[0.25, 0.35], forecast_bytes=100, cer=0.1, cer_interval=[0.05, 0.2]),
    row("small", 3.0, 4, wer=0.30, wer_interval=[0.25, 0.35], forecast_bytes=300, cer=0.1, cer_interval=[0.05, 0.2]),
    row("large", 2.0, wer=0.10, wer_interval=[0.08, 0.12], forecast_bytes=900, cer=0.1, cer_interval=[0.05, 0.2]),
    row("worse", 2.5, wer=0.31, wer_interval=[0.25, 0.35], forecast_bytes=901, cer=0.1, cer_interval=[0.05, 0.2]),
    refused(),
]
