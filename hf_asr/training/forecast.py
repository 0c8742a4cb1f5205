"""What a run will take, measured on its own first batch before anything is trained."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import PreTrainedModel

from hf_asr.config.arguments import Arguments
from hf_asr.data.buckets import BucketBatchSampler, clips_in_batch
from hf_asr.data.corpora import Split
from hf_asr.data.packing import CLIPS_AT_ONCE
from hf_asr.errors import UserError
from hf_asr.evaluation.scoring import REFERENCE
from hf_asr.features.augmented import caches_train
from hf_asr.features.bank_room import BankForecast, check_fits
from hf_asr.features.cache import forecast_bytes
from hf_asr.features.collate import Collator
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.lengths import padded_seconds
from hf_asr.features.packed import packing_of
from hf_asr.features.positions import WindowChoice
from hf_asr.inference.generate import bare_model, to_device
from hf_asr.models.chunked_head import can_be_chunked
from hf_asr.models.family import ModelFamily, collator_for
from hf_asr.models.losses import TOKENS, Loss
from hf_asr.training.loss import summed_loss
from hf_asr.utterance import Seconds

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
        bank: The bank of encoder states; None without one.
    """

    steps: int
    step_seconds: float
    weight_bytes: int
    activation_bytes: int
    cache_bytes: int
    checkpoint_bytes: int
    bank: BankForecast | None = None

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
        if self.bank is not None:
            table.add_row(*self.bank.row())
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


def measure_step(
    model: nn.Module, batch: Mapping[str, Any], training: Any, loss: Loss, *, chunked_head: str | None = None
) -> tuple[float, int]:
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
        total, _ = summed_loss(loss, model, tensors, chunked_head=chunked_head)
    (total / loss.items(tensors["labels"]).clamp(min=1)).backward()
    if training.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    model.zero_grad(set_to_none=True)
    return seconds, saved.total


def num_steps(training: Any, num_examples: int | None, num_batches: int | None = None) -> int:
    """Return the optimiser steps of a run; ``max_steps`` where nothing tells how many clips there are.

    Args:
        training: The Trainer's arguments.
        num_examples: Clips of the training split; None where nothing tells.
        num_batches: Micro-batches of an epoch over all processes, where ``data.batch_seconds`` cuts them.
    """
    if training.max_steps > 0:
        return int(training.max_steps)
    assert num_examples is not None
    taken = training.gradient_accumulation_steps * training.world_size
    if num_batches is None:
        taken, num_batches = taken * training.per_device_train_batch_size, num_examples
    return math.ceil(training.num_train_epochs * math.ceil(num_batches / taken))


def fixed_bytes(model: nn.Module) -> int:
    """Return what weights, gradients and AdamW's states take."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return weights + trained * (1 + ADAM_STATES)


def chunked_head_of(model: nn.Module, family: ModelFamily, training: Mapping[str, Any]) -> str | None:
    """Return the head that training will work the loss out in; None for the model's own logits."""
    plain = training.get("chunked_loss", True) and not training.get("torch_compile")
    return family.head if plain and family.loss is TOKENS and can_be_chunked(bare_model(model), family.head) else None


def make_forecast(
    model: nn.Module,
    batch: Mapping[str, Any],
    training: Any,
    loss: Loss,
    *,
    num_examples: int | None,
    cache_bytes: int,
    num_batches: int | None = None,
    chunked_head: str | None = None,
) -> Forecast:
    """Measure one micro-batch and work out the whole run.

    Args:
        model: The model as it will be trained (frozen or adapted already).
        batch: A collated micro-batch of the run's own size.
        training: The Trainer's arguments.
        loss: The family's.
        num_examples: Clips of the training split, or windows of several; None for a stream.
        cache_bytes: Forecast size of the feature cache.
        num_batches: Micro-batches of an epoch, where ``data.batch_seconds`` cuts them.
        chunked_head: From :func:`chunked_head_of`.
    """
    # The first pass allocates and tunes.
    for _ in range(2):
        seconds, activations = measure_step(model, batch, training, loss, chunked_head=chunked_head)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    kept = (training.save_total_limit or 2) + 1
    return Forecast(
        steps=num_steps(training, num_examples, num_batches),
        step_seconds=seconds * training.gradient_accumulation_steps,
        weight_bytes=fixed_bytes(model),
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
    arguments: Arguments,
    bank: BankForecast | None = None,
) -> Forecast:
    """Show ten labels decoded back, and the forecast; nothing is written.

    Args:
        model: The model as it will be trained.
        family: Its family.
        processor: Its processor.
        split: The training split.
        encoder: The family's encoder.
        training: The Trainer's arguments.
        arguments: The whole configuration. Of packed windows, the number is guessed from the first clips.
        bank: What ``features.bank`` will take; None without one.

    Raises:
        UserError: None of the first clips can be trained on, or the bank does not fit and ``features.bank`` is ``on``.
    """
    packing = packing_of(encoder, arguments)
    wanted = max(NUM_LABELS, training.per_device_train_batch_size, CLIPS_AT_ONCE if packing else 0)
    clips = [encoder(row) for row in itertools.islice(split.rows, wanted)]
    encoded = packing.of_rows(clips) if packing else clips
    read = packing.joiner.labels.read if packing else encoder.labeller.read
    show_labels(encoded[:NUM_LABELS], read, REFERENCE[family.scoring])
    whole = [row for row in encoded if not row["error"]]
    if not whole:
        raise UserError(f"expected clips to train on, found none among the first {wanted}: {encoded[0]['error']}")
    collate = training_collator(arguments, family, processor, bare_model(model))
    size, num_batches = training.per_device_train_batch_size, None
    if arguments.data.batch_seconds is not None:
        size, num_batches = _of_seconds(arguments.data.batch_seconds, collate, split, whole)
    num_examples = len(split.rows) if isinstance(split.rows, Dataset) else split.rows.check_length(training.max_steps)
    cached = caches_train(arguments) and num_examples
    cache_bytes = forecast_bytes(split.seconds or 0.0, num_examples, encoder) if cached and num_examples else 0
    share = len(encoded) / len(clips)
    forecast = make_forecast(
        model,
        collate([whole[index % len(whole)] for index in range(size)]),
        training,
        family.loss,
        num_examples=None if num_examples is None else math.ceil(num_examples * share),
        cache_bytes=cache_bytes,
        num_batches=None if num_batches is None else math.ceil(num_batches * share),
        chunked_head=chunked_head_of(model, family, arguments.training),
    )
    forecast = replace(forecast, bank=bank)
    Console().print(forecast.table())
    if bank is not None and bank.problem:
        check_fits(bank, arguments.features.bank)
        print(f"features.bank=auto: no bank: {bank.problem}")
    return forecast


def training_collator(arguments: Arguments, family: ModelFamily, processor: Any, model: PreTrainedModel) -> Collator:
    """Return what collates training batches under a configuration, full windows mixed in as it says."""
    chosen = arguments.model
    window = WindowChoice.of(chosen)
    mix, seed = chosen.window_mix, arguments.experiment.seed
    return collator_for(family, processor, model, window, mix=mix, seed=seed)


def _of_seconds(
    batch_seconds: Seconds, collate: Collator, split: Split, encoded: Sequence[Mapping[str, Any]]
) -> tuple[int, int | None]:
    """Return (how many of the encoded clips a batch holds, batches of an epoch; of a stream as if all were so long)."""
    longest = max(padded_seconds(collate, [row["duration"] for row in encoded]))
    size = clips_in_batch(longest, batch_seconds)
    if not isinstance(split.rows, Dataset):
        clips = split.rows.expected
        return size, None if clips is None else math.ceil(clips / size)
    sampler = BucketBatchSampler(padded_seconds(collate, split.rows["duration"][:]), batch_seconds=batch_seconds)
    return size, sampler.num_batches
