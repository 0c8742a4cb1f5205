"""Where the time goes: torch.profiler's operators in groups, modules with what Python does between, a step's parts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from hf_asr.utterance import Seconds

RUN = "hf_asr.run"
MODULE = "hf_asr.module "
OUTSIDE = "outside operators"
OTHER = "other operators"
# Group to parts of operators' names; the first that fits counts. Names are aten's, and those of CUDA's kernels.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "attention": ("scaled_dot_product", "flash", "fmha", "efficient_attention", "softmax"),
    "convolution": ("conv", "wgrad", "dgrad", "im2col"),
    "matrix products": ("mm", "matmul", "linear", "gemm", "gemv", "bmm", "quantized::", "cutlass", "nvjet"),
    "normalisation": ("norm",),
    "activation": ("gelu", "relu", "silu", "tanh", "sigmoid", "glu", "erf"),
    "copies": ("copy", "_to_copy", "memcpy", "contiguous", "clone", "cat", "stack", "fill_", "memset", "zero_"),
    "memory": ("empty", "alloc", "resize", "free", "as_strided", "view", "reshape", "transpose", "permute", "slice"),
    "synchronisation": ("synchronize", "_local_scalar_dense", "item", "wait"),
}
# Modules shown, by the time that they themselves (hooks and Python included, operators left out) took.
NUM_MODULES = 12


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """Shares of a run's time.

    Attributes:
        seconds: Of the run, under the profiler (slower than without).
        groups: Group to its share of the time on the CPU.
        device_groups: The same on the CUDA device; empty without one.
        modules: (module, class, share): the time within a module that no operator of torch took.
    """

    seconds: Seconds
    groups: Mapping[str, float]
    device_groups: Mapping[str, float]
    modules: list[tuple[str, str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "seconds": self.seconds,
            "groups": dict(self.groups),
            "device_groups": dict(self.device_groups),
            "modules": [{"module": name, "class": kind, "share": share} for name, kind, share in self.modules],
        }


def group_of(operator: str) -> str:
    """Return the group of an operator or kernel by its name."""
    name = operator.lower().removeprefix("aten::")
    for group, parts in GROUPS.items():
        if any(part in name for part in parts):
            return group
    return OTHER


def operator_table(run: Callable[[], object], model: nn.Module, trace: Path | None = None) -> OperatorTable:
    """Profile one run.

    Every module is given a range around its ``forward`` and its hooks, so that time which is in no operator, a sleep in
    a hook, a loop in Python, is found where it is spent.

    Args:
        run: What is profiled; it runs twice, the first time to warm up.
        model: The model that it runs.
        trace: Where a trace for chrome://tracing goes; None for none.
    """
    run()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with _ranges(model), profile(activities=activities) as profiler, record_function(RUN):
        run()
    if trace is not None:
        trace.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
    return _table(profiler.key_averages(), {name: type(module).__name__ for name, module in model.named_modules()})


def _table(averages: Any, classes: Mapping[str, str]) -> OperatorTable:
    groups: dict[str, float] = {}
    device: dict[str, float] = {}
    modules: list[tuple[str, str, float]] = []
    total = 0.0
    for event in averages:
        own = event.self_cpu_time_total / 1e6
        if event.key == RUN:
            total = event.cpu_time_total / 1e6
            groups[OUTSIDE] = groups.get(OUTSIDE, 0.0) + own
        elif event.key.startswith(MODULE):
            name = event.key.removeprefix(MODULE)
            groups[OUTSIDE] = groups.get(OUTSIDE, 0.0) + own
            modules.append((name or "(the model)", classes.get(name, ""), own))
        else:
            group = group_of(event.key)
            groups[group] = groups.get(group, 0.0) + own
            device[group] = device.get(group, 0.0) + event.self_device_time_total / 1e6
    modules.sort(key=lambda module: -module[2])
    largest = [(name, kind, own / total) for name, kind, own in modules[:NUM_MODULES]]
    return OperatorTable(total, _shares(groups), _shares(device), largest)


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    whole = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: own / whole for name, own in ordered if own} if whole else {}


@contextmanager
def _ranges(model: nn.Module) -> Iterator[None]:
    """Put a profiler's range around every module: before its first hook, until after its last."""
    handles = []
    for name, module in model.named_modules():
        ranges = _Ranges(name)
        handles.append(module.register_forward_pre_hook(ranges.enter, prepend=True))
        handles.append(module.register_forward_hook(ranges.leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Ranges:
    """Opens and closes a module's range; a stack, as a module may call itself."""

    def __init__(self, name: str) -> None:
        self.name = MODULE + name
        self.opened: list[record_function] = []

    def enter(self, module: nn.Module, inputs: Any) -> None:
        opened = record_function(self.name)
        opened.__enter__()
        self.opened.append(opened)

    def leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self.opened.pop().__exit__(None, None, None)


class TrainingStep(Protocol):
    """One optimiser step in parts; the verb makes it, as this part of the package knows no training."""

    def load(self) -> Any:
        """Return the next batch, on the device."""

    def forward(self, batch: Any) -> torch.Tensor:
        """Return the loss."""

    def backward(self, loss: torch.Tensor) -> None:
        """Compute the gradients."""

    def optimise(self) -> None:
        """Change the weights and forget the gradients."""


def split_step(step: TrainingStep, device: torch.device, repeats: int = 5) -> dict[str, Any]:
    """Time the parts of a training step.

    Args:
        step: The step; one goes before to warm up.
        device: Waited for after each part.
        repeats: Steps measured.

    Returns:
        ``loader_wait_seconds``, ``forward_seconds``, ``backward_seconds``, ``optimiser_seconds`` (medians),
        ``step_seconds`` and ``n``.
    """
    _parts(step, device)
    timed = [_parts(step, device) for _ in range(repeats)]
    names = ("loader_wait", "forward", "backward", "optimiser")
    columns = zip(names, zip(*timed, strict=True), strict=True)
    medians = {f"{name}_seconds": statistics.median(column) for name, column in columns}
    return {**medians, "step_seconds": statistics.median(map(sum, timed)), "n": repeats}


def _parts(step: TrainingStep, device: torch.device) -> list[Seconds]:
    marks = [_now(device)]
    batch = step.load()
    marks.append(_now(device))
    loss = step.forward(batch)
    marks.append(_now(device))
    step.backward(loss)
    marks.append(_now(device))
    step.optimise()
    marks.append(_now(device))
    return [after - before for before, after in pairwise(marks)]


def _now(device: torch.device) -> Seconds:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
