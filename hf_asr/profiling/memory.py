"""Memory of a cell: forecast from shapes before it runs, and the peak while it does."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property

import psutil
import torch

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.profiling.counted import LiveMemory, live_memory
from hf_asr.profiling.runners import windows_of
from hf_asr.profiling.subject import Subject
from hf_asr.profiling.synthetic import noise
from hf_asr.utterance import Seconds

# Of what is free, this share is planned with: allocators keep blocks of odd sizes, libraries their workspaces.
USABLE = 0.9
# How often the resident memory is looked at while a cell runs on a CPU.
EVERY: Seconds = 0.01


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a model takes of the memory of its device, in bytes.

    Attributes:
        weights: Parameters and buffers.
        activations: A clip's, at the encoder's fullest moment.
        kv_cache: A clip's keys and values after all tokens.
        decoder: A clip's, at the decoder's fullest moment.
    """

    weights: int
    activations: int
    kv_cache: int
    decoder: int

    @property
    def per_clip(self) -> int:
        """Bytes that each further clip of a batch takes: encoding and decoding follow each other."""
        return max(self.activations, self.kv_cache + self.decoder)

    def needed(self, batch_size: int) -> int:
        """Return the bytes of a batch, weights included."""
        return self.weights + batch_size * self.per_clip

    def largest_batch(self, free: int) -> int:
        """Return how many clips fit beside the weights into ``free`` bytes; 0 when not one does."""
        return max(0, int((USABLE * free - self.weights) // max(self.per_clip, 1)))


@dataclass
class MemoryOfModel:
    """Forecasts for one model in one dtype; a shape is followed once.

    Attributes:
        subject: The model.
        dtype: Type of weights and activations.
        device: ``cpu`` or ``cuda``.
        attention: ``sdpa`` or ``eager``.
    """

    subject: Subject
    dtype: torch.dtype
    device: str
    attention: str = "sdpa"

    def __post_init__(self) -> None:
        self._known: dict[tuple[object, ...], LiveMemory] = {}

    @cached_property
    def weights(self) -> int:
        """Bytes of parameters and buffers in :attr:`dtype`."""
        model = self.subject.shapes
        distinct = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
        return sum(tensor.numel() * self.dtype.itemsize for tensor in distinct.values())

    @cached_property
    def encoder_weights(self) -> int:
        """Bytes of the encoder's; of everything where there is no decoder."""
        if not self.subject.has_decoder:
            return self.weights
        return sum(tensor.numel() * self.dtype.itemsize for tensor in self.subject.shapes.get_encoder().parameters())

    def forecast(self, duration: Seconds, tokens: int) -> Forecast:
        """Return what clips of a duration take."""
        live = self._live(duration, tokens)
        return Forecast(self.weights, live.activations, live.kv_cache, live.decoder)

    def _live(self, duration: Seconds, tokens: int) -> LiveMemory:
        shapes = input_shapes(self.subject, duration)
        key = (*((name, shape) for name, (shape, _) in shapes.items()), tokens)
        if key not in self._known:
            self._known[key] = live_memory(
                self.subject.build(self.attention),
                self.subject.config,
                shapes,
                tokens=tokens,
                device=self.device,
                dtype=self.dtype,
            )
        return self._known[key]


def input_shapes(
    subject: Subject, duration: Seconds, batch: int = 1, window: str = "full"
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return shape and type of what the encoder takes of clips of a duration: of a window, where there is one."""
    clip = windows_of(subject, [noise(duration, 0)])[0][0]
    inputs = subject.inputs(subject.shapes, [clip], window)
    # A mask of clips of one length masks nothing, and models look into it, where there are no numbers.
    return {
        name: ((batch, *value.shape[1:]), value.dtype) for name, value in inputs.items() if name != "attention_mask"
    }


def frames_of(subject: Subject, inputs: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> int:
    """Return the frames (M) or samples (T) of an encoder's input."""
    shape, _ = next(iter(inputs.values()))
    return shape[-1] if len(shape) == 2 or subject.family.name == "whisper" else shape[1]


def num_windows(subject: Subject, duration: Seconds) -> int:
    """Return how many windows a clip takes."""
    if not subject.long_form:
        return 1
    return -(-round(duration * SAMPLE_RATE) // int(subject.longest_seconds * SAMPLE_RATE))


def free_bytes(device: torch.device) -> int:
    """Return the memory of a device that is free now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


class PeakMeter:
    """Measures the most memory in use while it is open: CUDA's own count, or this process's resident memory.

    Resident memory is the whole process's, libraries and all, and an allocator seldom gives back what an earlier cell
    took: it bounds what a cell needs, the forecast says what it needs.

    Args:
        device: Where the model runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMeter:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        else:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        self.peak = process.memory_info().rss
        while not self._stop.wait(EVERY):
            self.peak = max(self.peak, process.memory_info().rss)
        self.peak = max(self.peak, process.memory_info().rss)
