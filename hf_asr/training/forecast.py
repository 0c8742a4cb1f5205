"""What a run will take, measured on its own first batch before anything is trained."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from torch import nn

from hf_asr.data.corpora import Split
from hf_asr.data.packing import CLIPS_AT_ONCE
from hf_asr.errors import UserError
from hf_asr.evaluation.scoring import REFERENCE
from hf_asr.features.cache import forecast_bytes
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.packed import PackedTraining
from hf_asr.inference.generate import bare_model, to_device
from hf_asr.models.family import ModelFamily
from hf_asr.models.losses import Loss
from hf_asr.training.loss import summed_loss

GIB = 2**30
NUM_LABELS = 10
ADAM_STATES = 2  # AdamW keeps two numbers of the parameter's size


@dataclass(frozen=True)
class Forecast:
    """Time, memory and disk of a run.

    Attributes:
        steps: Optimiser steps.
        step_seconds: One optimiser step, measured forward and backward on the longest batch seen.
        weight_bytes: Weights, gradients and optimiser states.
        activation_bytes: What one micro-batch keeps for its backward pass.
        cache_bytes: Prepared features on disk; 0 without a cache.
        checkpoint_bytes: All checkpoints kept at once, and the best model.
    """

    steps: int
    step_seconds: float
    weight_bytes: int
    activation_bytes: int
    cache_bytes: int
    checkpoint_bytes: int

    def table(self) -> Table:
        """Return the forecast for the console."""
        table = Table(title="Forecast", show_header=False)
        seconds = self.steps * self.step_seconds
        table.add_row("optimiser steps", f"{self.steps:,}")
        table.add_row("one step, measured (forward and backward)", f"{self.step_seconds:.2f} s")
        table.add_row("training, without evaluation", f"{seconds / 3600:.2f} h ({seconds:,.0f} s)")
        table.add_row("memory: weights, gradients, optimiser", f"{self.weight_bytes / GIB:.2f} GiB")
        table.add_row("memory: activations of a micro-batch", f"{self.activation_bytes / GIB:.2f} GiB")
        table.add_row("disk: feature cache", f"{self.cache_bytes / GIB:.3f} GiB")
        table.add_row("disk: checkpoints", f"{self.checkpoint_bytes / GIB:.2f} GiB")
        return table


class SavedBytes:
    """Counts the distinct storages that autograd keeps for the backward pass, leaving parameters out."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self.storages: dict[int, int] = {}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note one saved tensor."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.parameters:
            self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    def unpack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Hand a saved tensor back."""
        return tensor

    @property
    def total(self) -> int:
        """Bytes kept."""
        return sum(self.storages.values())


def measure_step(model: nn.Module, batch: Mapping[str, Any], training: Any, loss: Loss) -> tuple[float, int]:
    """Run one micro-batch forward and backward; return (seconds, bytes kept for backward). Weights do not change."""
    model.to(training.device).train()
    moved = to_device(batch, bare_model(model))
    tensors = {name: value for name, value in moved.items() if isinstance(value, torch.Tensor)}
    saved = SavedBytes(model)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(training.mixed_precision)
    start = time.perf_counter()
    with (
        torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack),
        torch.autocast(training.device.type, dtype=dtype, enabled=dtype is not None),
    ):
        total, _ = summed_loss(loss, model, tensors)
    (total / loss.items(tensors["labels"]).clamp(min=1)).backward()
    if training.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    model.zero_grad(set_to_none=True)
    return seconds, saved.total


def num_steps(training: Any, num_examples: int | None) -> int:
    """Return the optimiser steps of a run; ``max_steps`` where nothing tells how many clips there are."""
    if training.max_steps > 0:
        return int(training.max_steps)
    assert num_examples is not None
    taken = training.per_device_train_batch_size * training.gradient_accumulation_steps * training.world_size
    return math.ceil(training.num_train_epochs * math.ceil(num_examples / taken))


def make_forecast(
    model: nn.Module,
    batch: Mapping[str, Any],
    training: Any,
    loss: Loss,
    *,
    num_examples: int | None,
    cache_bytes: int,
) -> Forecast:
    """Measure one micro-batch and work out the whole run.

    Args:
        model: The model as it will be trained (frozen or adapted already).
        batch: A collated micro-batch of the run's own size.
        training: The Trainer's arguments.
        loss: The family's.
        num_examples: Clips of the training split, or windows of several; None for a stream.
        cache_bytes: Forecast size of the feature cache.
    """
    measure_step(model, batch, training, loss)  # the first pass allocates and tunes
    seconds, activations = measure_step(model, batch, training, loss)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    kept = (training.save_total_limit or 2) + 1
    return Forecast(
        steps=num_steps(training, num_examples),
        step_seconds=seconds * training.gradient_accumulation_steps,
        weight_bytes=weights + trained * (1 + ADAM_STATES),
        activation_bytes=activations,
        cache_bytes=cache_bytes,
        checkpoint_bytes=kept * (weights + ADAM_STATES * trained) + weights,
    )


def show_labels(
    rows: Sequence[Mapping[str, Any]], read_labels: Callable[[Sequence[Any]], str], reference: str = "text"
) -> None:
    """Print each row's reference above what its labels say."""
    print(f"{len(rows)} labels decoded back:")
    for row in rows:
        decoded = row["error"] or read_labels(row["labels"])
        print(f"{row['id']}\n  reference: {row[reference]}\n  labels:    {decoded}")


def dry_run(
    model: nn.Module,
    family: ModelFamily,
    processor: Any,
    split: Split,
    encoder: ClipEncoder,
    training: Any,
    *,
    cache: bool,
    packing: PackedTraining | None = None,
) -> Forecast:
    """Show ten labels decoded back, and the forecast; nothing is written.

    Args:
        model: The model as it will be trained.
        family: Its family.
        processor: Its processor.
        split: The training split.
        encoder: The family's encoder.
        training: The Trainer's arguments.
        cache: Whether features of the training split are cached: :func:`hf_asr.features.augmented.caches_train`.
        packing: How its clips are joined; the number of windows is guessed from the first clips.
    """
    wanted = max(NUM_LABELS, training.per_device_train_batch_size, CLIPS_AT_ONCE if packing else 0)
    clips = [encoder(row) for row in itertools.islice(split.rows, wanted)]
    encoded = packing.of_rows(clips) if packing else clips
    read = packing.joiner.labels.read if packing else encoder.labeller.read
    show_labels(encoded[:NUM_LABELS], read, REFERENCE[family.scoring])
    whole = [row for row in encoded if not row["error"]]
    if not whole:
        raise UserError(f"expected clips to train on, found none among the first {wanted}: {encoded[0]['error']}")
    collate = family.make_collator(processor, bare_model(model))
    batch = collate([whole[index % len(whole)] for index in range(training.per_device_train_batch_size)])
    num_examples = len(split.rows) if isinstance(split.rows, Dataset) else split.rows.check_length(training.max_steps)
    cached = forecast_bytes(split.seconds or 0.0, num_examples, encoder) if cache and num_examples else 0
    if num_examples is not None:
        num_examples = math.ceil(num_examples * len(encoded) / len(clips))
    forecast = make_forecast(model, batch, training, family.loss, num_examples=num_examples, cache_bytes=cached)
    Console().print(forecast.table())
    return forecast
