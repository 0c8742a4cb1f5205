"""What this machine reaches: FLOP/s of a large matrix product, bytes/s of a copy; and where each stage stands below.

The roofline model: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 2009.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hf_asr.utterance import Seconds

REPEATS = 5
# Sides of the matrices, and bytes of the copy: beyond every cache of a CPU, short on two cores (0.3 s a product).
SIDE = {"cpu": 1536, "cuda": 8192}
COPIED = {"cpu": 2**27, "cuda": 2**30}


@dataclass(frozen=True, slots=True)
class Roof:
    """What a device reaches in a dtype.

    Attributes:
        flops_per_second: Of a square matrix product, the best of five.
        bytes_per_second: Of a copy, read and written bytes together, the best of five.
    """

    flops_per_second: float
    bytes_per_second: float

    @property
    def ridge(self) -> float:
        """FLOPs a byte from which arithmetic, and no longer memory, is the limit."""
        return self.flops_per_second / self.bytes_per_second

    def limit(self, intensity: float) -> float:
        """Return the most FLOP/s at an arithmetic intensity (FLOPs a byte)."""
        return min(self.flops_per_second, intensity * self.bytes_per_second)


def measure_roof(device: torch.device, dtype: torch.dtype) -> Roof:
    """Measure a device: a matrix product and a copy, each once to warm up and five times for the best."""
    side = SIDE[device.type]
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    product = _best(_Call(torch.matmul, left, right), device)
    source = torch.zeros(COPIED[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = _best(_Call(target.copy_, source), device)
    return Roof(2 * side**3 / product, 2 * source.nbytes / copy)


@dataclass
class _Call:
    function: Callable[..., object]
    first: torch.Tensor
    second: torch.Tensor | None = None

    def __call__(self) -> None:
        self.function(*(part for part in (self.first, self.second) if part is not None))


def _best(call: Callable[[], None], device: torch.device) -> Seconds:
    call()
    return min(_seconds(call, device) for _ in range(REPEATS))


def _seconds(call: Callable[[], None], device: torch.device) -> Seconds:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def median_and_quartiles(values: list[float]) -> tuple[float, list[float]]:
    """Return the median and [first, third] quartile of values; of a single one, itself."""
    if len(values) < 2:
        return values[0], [values[0], values[0]]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, [low, high]
