"""From prepared clips to hypotheses: one road for validation, the baseline, the test and ``hf-asr evaluate``."""

from __future__ import annotations

import contextlib
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PreTrainedModel, ProcessorMixin

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.collate import Collator
from hf_asr.features.lengths import padded_seconds
from hf_asr.features.positions import WindowChoice
from hf_asr.inference.batches import cut_batches
from hf_asr.inference.states import encoding_once
from hf_asr.models.family import ModelFamily, collator_for
from hf_asr.utterance import Drops, Hypothesis, Seconds

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that decides a hypothesis besides weights and clip; equal conditions give equal digits.

    Attributes:
        window: Part of the model's input window that is computed (``evaluation.window``).
        dtype: Arithmetic of the forward pass, a key of :data:`DTYPES`.
        batch_size: Clips decoded together; it is a condition because sums in another order differ in their last bits.
        generation: What the family's decoding is told: options of ``generate`` by their transformers names, or a CTC
            model's beam and language model.
        window_keep_seconds: Silence that a thinned window keeps whole (``model.window_keep_seconds``).
        window_stride: Of the rest it keeps one of how many positions (``model.window_stride``).
        window_run: Of these it keeps how many neighbours together (``model.window_run``).
        bank: Whether the encoder's states are read from a bank, in float16; only ever so in validation.
        batch_seconds: Padded seconds decoded together, in place of ``batch_size``.
    """

    window: str
    dtype: str
    batch_size: int
    generation: Mapping[str, Any]
    window_keep_seconds: Seconds = 0.5
    window_stride: int = 10
    window_run: int = 10
    bank: bool = False
    batch_seconds: Seconds | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON-able copy that test_results.json stores."""
        thinned = {
            "window_keep_seconds": self.window_keep_seconds,
            "window_stride": self.window_stride,
            "window_run": self.window_run,
        }
        return {
            "window": self.window,
            **(thinned if self.window == "thinned" else {}),
            "dtype": self.dtype,
            **(
                {"batch_size": self.batch_size} if self.batch_seconds is None else {"batch_seconds": self.batch_seconds}
            ),
            "generation": dict(self.generation),
            **({"bank": True} if self.bank else {}),
        }

    def choice(self) -> WindowChoice:
        """Return the window that clips are collated for."""
        return WindowChoice(self.window, self.window_keep_seconds, self.window_stride, self.window_run)


@dataclass(frozen=True, slots=True)
class Generated:
    """Hypotheses of a whole split, the same on every process.

    Attributes:
        hypotheses: One per decoded clip, in row order.
        durations: Length of each decoded clip in seconds, after preparation, in the same order.
        wall_seconds: Time of the slowest process, loading of features included, start-up excluded.
        drops: Clips that could not be prepared and so have no hypothesis.
    """

    hypotheses: list[Hypothesis]
    durations: list[Seconds]
    wall_seconds: Seconds
    drops: Drops

    @property
    def seconds_of_audio(self) -> Seconds:
        """Length of the decoded clips together."""
        return sum(self.durations)

    @property
    def rtfx(self) -> float:
        """Seconds of audio decoded in one second (the inverse real-time factor)."""
        return self.seconds_of_audio / self.wall_seconds


@dataclass(slots=True)
class _Decoded:
    """What one process decoded: (place in the split, id, text, seconds), and of what it could not, the error."""

    clips: list[tuple[int, str, str, Seconds]] = field(default_factory=list)
    drops: list[tuple[int, str, str]] = field(default_factory=list)


def resolve_conditions(
    family: ModelFamily, arguments: Arguments, device: torch.device | str, weights: torch.dtype = torch.float32
) -> Conditions:
    """Fix what ``auto`` means on this device.

    Args:
        family: The model's family, which knows what decides its decoding.
        arguments: The whole configuration.
        device: Where the model is.
        weights: What the model's weights are stored in.
    """
    evaluation = arguments.evaluation
    dtype = auto_dtype(device, weights) if evaluation.dtype == "auto" else evaluation.dtype
    return Conditions(
        evaluation.window,
        dtype,
        evaluation.batch_size,
        family.decoding_options(arguments),
        arguments.model.window_keep_seconds,
        arguments.model.window_stride,
        arguments.model.window_run,
        batch_seconds=evaluation.batch_seconds,
    )


def auto_dtype(device: torch.device | str, weights: torch.dtype) -> str:
    """Return the arithmetic that ``evaluation.dtype: auto`` means.

    float32 on a CPU; on a GPU bfloat16 where the hardware has it, else float16 (T4, P100: no bfloat16); weights
    stored in half precision are computed as they are stored.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    if weights != torch.float32:
        return names[weights]
    if torch.device(device).type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def generate_dataset(
    model: torch.nn.Module,
    family: ModelFamily,
    processor: ProcessorMixin,
    prepared: PreparedSplit,
    conditions: Conditions,
    *,
    progress: bool = True,
    before: Callable[[dict[str, Any]], None] | None = None,
) -> Generated:
    """Decode every clip of a split exactly once and hand all hypotheses to every process.

    Batches are cut over the whole split (:func:`hf_asr.inference.batches.cut_batches`) and dealt whole to the
    processes, so a clip has the same neighbours, and its text the same digits behind it, however many processes there
    are. The model's training flags
    and the random state are left as found; weights are never cast, half precision is autocast.

    Args:
        model: Model to decode with; DDP and adapter wrappers are looked through.
        family: Its family, which knows how to collate and decode.
        processor: Its feature extractor and tokenizer.
        prepared: The split's encoded rows.
        conditions: From :func:`resolve_conditions`.
        progress: Whether the main process shows a bar on stderr.
        before: Given each collated batch before it is decoded. The encoder's states that it has computed are decoded
            then (:func:`hf_asr.inference.states.encoding_once`); its time is part of ``wall_seconds``.

    Raises:
        UserError: A generation option the model does not know, a dtype its weights cannot be computed in, or not one
            clip that can be decoded.
    """
    inner = bare_model(model)
    family.check_decoding(inner, conditions.generation)
    collate = collator_for(family, processor, inner, conditions.choice())
    names = family.encoder_inputs if before else ()
    with decoding(model, conditions.dtype), encoding_once(inner, names):
        decoded = _Decoded()
        started = _now(inner.device)
        for places in _mine(split_batches(prepared, collate, conditions), progress):
            rows = {place: prepared.rows[place] for place in places}
            batch = collate(list(rows.values()))
            if before:
                before(batch)
            _keep(decoded, rows, batch, _decode(inner, family, processor, batch, conditions.generation))
        elapsed = _now(inner.device) - started
    generated = _gather(decoded, elapsed, prepared.column("id"))
    if not generated.hypotheses:
        found = "; ".join(generated.drops.lines(3)) or "no clip at all"
        raise UserError(f"{prepared.name}: expected clips to decode, found none left: {found}. Check data.path.")
    return generated


@contextlib.contextmanager
def decoding(model: torch.nn.Module, dtype: str) -> Iterator[PreTrainedModel]:
    """Make a model ready to decode, and leave it, its training flags and all random states as they were found.

    Args:
        model: Model, wrapped or not.
        dtype: Arithmetic of the forward pass, a key of :data:`DTYPES`.

    Yields:
        The model without its wrappers.

    Raises:
        UserError: The weights are in half precision and ``dtype`` is another one.
    """
    inner = bare_model(model)
    modes = [(module, module.training) for module in model.modules()]
    with _own_forward(inner), _random_state_kept(inner.device), torch.no_grad(), _arithmetic(inner, dtype):
        model.eval()
        try:
            yield inner
        finally:
            for module, training in modes:
                module.training = training


def bare_model(model: torch.nn.Module) -> PreTrainedModel:
    """Return the transformers model inside DDP, torch.compile and adapter wrappers; adapter layers stay active."""
    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def to_device(batch: Mapping[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """Move a collated batch to the model's device, floating tensors to the dtype its weights are stored in."""
    moved = dict(batch)
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            moved[name] = value.to(model.device, model.dtype if value.is_floating_point() else None)
    return moved


def seed_by_ids(ids: Sequence[str]) -> None:
    """Seed torch by the clips about to be decoded, so that what sampling gives depends on nothing before them."""
    torch.manual_seed(zlib.crc32("\n".join(ids).encode()))


def on_main(function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Call a function on the main process alone and hand what it returns to all.

    Raises:
        UserError: The function raised it; every process does.
    """
    outcome: list[Any] = [None, ""]
    if PartialState().is_main_process:
        try:
            outcome[0] = function(*args, **options)
        except UserError as error:
            outcome[1] = str(error)
    broadcast_object_list(outcome)
    if outcome[1]:
        raise UserError(outcome[1])
    return cast(Result, outcome[0])


def progress_bar(enabled: bool) -> Progress:
    """Return a bar on stderr, since stdout belongs to results; none where stderr is no terminal."""
    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not (enabled and console.is_terminal), transient=True)


def split_batches(prepared: PreparedSplit, collate: Collator, conditions: Conditions) -> list[list[int]]:
    """Return the places of each batch's rows in a split, longest clips first."""
    durations = prepared.column("duration")
    assert len(prepared.rows) == len(durations), "a clip was not decoded, or one too many would be"
    padded = padded_seconds(collate, durations)
    return cut_batches(durations, padded, conditions.batch_size, conditions.batch_seconds)


def _mine(batches: Sequence[list[int]], progress: bool) -> Iterator[list[int]]:
    """Yield this process's batches, whole."""
    state = PartialState()
    mine = batches[state.process_index :: state.num_processes]
    with progress_bar(progress and state.is_main_process) as bar:
        yield from bar.track(mine, description="decoding")


def _decode(
    model: PreTrainedModel,
    family: ModelFamily,
    processor: ProcessorMixin,
    batch: dict[str, Any],
    options: Mapping[str, Any],
) -> list[str]:
    if not batch["ids"]:
        return []
    seed_by_ids(batch["ids"])
    return family.decode(model, processor, to_device(batch, model), options)


def _keep(
    decoded: _Decoded, rows: Mapping[int, Mapping[str, Any]], batch: Mapping[str, Any], texts: Sequence[str]
) -> None:
    """Note what became of the rows (place in the split: row) of a batch."""
    places = {row["id"]: place for place, row in rows.items()}
    for id, text in zip(batch["ids"], texts, strict=True):
        decoded.clips.append((places[id], id, text, rows[places[id]]["duration"]))
    decoded.drops += [(places[id], id, error) for id, error in batch["skipped"]]


def _gather(decoded: _Decoded, elapsed: Seconds, ids: Sequence[str]) -> Generated:
    clips = sorted(gather_object(decoded.clips))
    drops = Drops()
    for _, id, error in sorted(gather_object(decoded.drops)):
        reason, _, detail = error.partition(": ")
        drops.add(reason, id, detail)
    dropped = [id for items in drops.reasons.values() for id, _ in items]
    seen = [id for _, id, _, _ in clips] + dropped
    assert len(seen) == len(set(seen)), "a clip was decoded twice"
    assert sorted(seen) == sorted(ids), "a clip was not decoded, or its id stands twice in the split"
    hypotheses = [Hypothesis(id, text) for _, id, text, _ in clips]
    return Generated(hypotheses, [seconds for *_, seconds in clips], max(gather_object([elapsed])), drops)


def _now(device: torch.device) -> Seconds:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def _own_forward(model: PreTrainedModel) -> Iterator[None]:
    """Set aside the autocast that ``Accelerator.prepare`` wraps around ``forward`` when training in bf16 or fp16.

    With it, validation would be computed in training's dtype, and not in the one that test and evaluate use.
    """
    if "_original_forward" not in vars(model):
        yield
        return
    wrapped = vars(model)["forward"]
    model.forward = vars(model)["_original_forward"]
    try:
        yield
    finally:
        model.forward = wrapped


@contextlib.contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


def _arithmetic(model: PreTrainedModel, dtype: str) -> contextlib.AbstractContextManager[Any]:
    wanted = DTYPES[dtype]
    if model.dtype == wanted:
        return torch.autocast(model.device.type, enabled=False)
    if model.dtype != torch.float32:
        stored = str(model.dtype).removeprefix("torch.")
        raise UserError(
            f"evaluation.dtype is {dtype}, but the model's weights are {stored} (model.dtype); "
            f"set evaluation.dtype={stored}, or model.dtype=float32"
        )
    return torch.autocast(model.device.type, dtype=wanted)
