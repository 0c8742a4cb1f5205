"""What is known of a cell without running it: FLOPs, bytes, whether it fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from hf_asr.profiling.counted import count
from hf_asr.profiling.flops import GIGA, Flops, analytic, whisper
from hf_asr.profiling.log import Cell, Group
from hf_asr.profiling.memory import USABLE, MemoryOfModel, frames_of, free_bytes, input_shapes, num_windows
from hf_asr.profiling.subject import Subject
from hf_asr.profiling.variants import DTYPES
from hf_asr.utterance import Seconds

MIB = 2**20


@dataclass
class FactsOfGroup:
    """Facts of a model on a device.

    Attributes:
        group: The loaded model.
        subject: It, before it is loaded.
        tokens: Tokens written.
        limit: Bytes that the device is taken to have free; None asks it, once, before the model is loaded.
        known: FLOPs by duration, shared by the groups of a model that compute as many of them.
    """

    group: Group
    subject: Subject
    tokens: int
    limit: int | None = None
    known: dict[Seconds, tuple[Flops, Flops | None]] = field(default_factory=dict)

    @cached_property
    def free(self) -> int:
        """Bytes that are free."""
        return free_bytes(torch.device(self.group.device)) if self.limit is None else self.limit

    @cached_property
    def memory(self) -> MemoryOfModel:
        """Forecasts of memory."""
        attention = "eager" if self.group.variant == "eager" else "sdpa"
        return MemoryOfModel(self.subject, DTYPES[self.group.dtype], self.group.device, attention)

    def verdict(self, cell: Cell) -> tuple[str, str]:
        """Return status and message of a cell that cannot run; empty texts for one that can."""
        longest = self.subject.longest_seconds
        if cell.duration > longest and not self.subject.long_form:
            name = self.subject.family.name
            return "not_available", f"a {name} model takes clips of {longest:g} s at most, not of {cell.duration:g} s"
        forecast = self.memory.forecast(cell.duration, self.tokens)
        needed = forecast.needed(cell.batch_size)
        if needed > USABLE * self.free:
            return "oom", (
                f"forecast: {needed / MIB:,.0f} MiB needed, {USABLE:.0%} of {self.free / MIB:,.0f} MiB free usable; "
                f"the largest batch that fits is {forecast.largest_batch(self.free)}"
            )
        return "", ""

    def flops(self, duration: Seconds) -> tuple[Flops, Flops | None]:
        """Return the FLOPs of a window by formula (counted where there is none), and as counted."""
        if duration not in self.known and self.group.variant == "thinned":
            shapes = input_shapes(self.subject, duration, window="thinned")
            positions = shapes["positions"][0][1]
            self.known[duration] = (whisper(self.subject.config, frames_of(self.subject, shapes), positions), None)
        elif duration not in self.known:
            shapes = input_shapes(self.subject, duration)
            inputs = {name: torch.zeros(shape, dtype=kind, device="meta") for name, (shape, kind) in shapes.items()}
            counted = count(self.subject.shapes, inputs)
            formula = analytic(self.subject.config, frames_of(self.subject, shapes))
            self.known[duration] = (formula or counted, counted)
        return self.known[duration]

    def cost(self, cell: Cell) -> float:
        """Return the FLOPs of a whole cell, from which its time is forecast."""
        flops, _ = self.flops(cell.duration)
        steps = self.tokens * (flops.decoder_step or 0.0)
        windows = num_windows(self.subject, cell.duration)
        return cell.batch_size * windows * (flops.encoder + flops.head + flops.cross_kv + steps)

    def of(self, cell: Cell) -> dict[str, Any]:
        """Return a cell's facts by the names of the report's rows."""
        flops, counted = self.flops(cell.duration)
        windows = num_windows(self.subject, cell.duration)
        forecast = self.memory.forecast(cell.duration, self.tokens)
        formula = analytic(self.subject.config, 3000) is not None
        states = flops.states * self._width * DTYPES[self.group.dtype].itemsize
        return {
            "family": self.subject.family.name,
            "windows": windows,
            "encoder_gflops": windows * flops.encoder / GIGA,
            "cross_kv_gflops": windows * flops.cross_kv / GIGA,
            "decoder_step_gflops": None if flops.decoder_step is None else flops.decoder_step / GIGA,
            "head_gflops": flops.head / GIGA if flops.head else None,
            "encoder_gflops_counted": windows * counted.encoder / GIGA if counted else None,
            "decoder_step_gflops_counted": _giga(counted.decoder_step) if counted else None,
            "gflops_from": "formula" if formula else "counted",
            "weight_bytes": forecast.weights,
            "activation_bytes": cell.batch_size * forecast.activations,
            "kv_cache_bytes": cell.batch_size * forecast.kv_cache,
            "forecast_bytes": forecast.needed(cell.batch_size),
            "largest_batch": forecast.largest_batch(self.free),
            "free_bytes": self.free,
            "encoder_bytes_moved": self.memory.encoder_weights + cell.batch_size * states,
            "decoder_bytes_moved": (
                forecast.weights - self.memory.encoder_weights + cell.batch_size * forecast.kv_cache
                if self.subject.has_decoder
                else None
            ),
        }

    @property
    def _width(self) -> int:
        return int(self.subject.config.hidden_size)


def _giga(flops: float | None) -> float | None:
    return None if flops is None else flops / GIGA
