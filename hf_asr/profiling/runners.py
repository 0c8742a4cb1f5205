"""One measured run: clips to token ids, stage by stage, with the clock stopped between them.

Every runner is called the same way, ``runner(clips, tokens, watch)``; one whose stages cannot be told apart (another
runtime's) laps its watch once, and the table shows a dash for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from transformers import EncoderDecoderCache, StaticCache

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.profiling.clips import ProfileClip
from hf_asr.profiling.quality import FreeDecoding
from hf_asr.profiling.subject import Subject
from hf_asr.utterance import Seconds

# Laps of a run, in its order.
STAGES = ("decode_audio", "features", "encoder", "first_token", "tokens", "decoder", "detokenise", "whole")


@dataclass
class Stopwatch:
    """Adds up the seconds of each stage; the device is waited for at every lap.

    Attributes:
        device: Where the model runs.
        laps: Stage to seconds.
        first_token: Seconds from the start to the first token; None until then.
    """

    device: torch.device
    laps: dict[str, Seconds] = field(default_factory=dict)
    first_token: Seconds | None = None
    _started: Seconds = 0.0
    _last: Seconds = 0.0

    def start(self) -> None:
        """Begin."""
        self._started = self._last = self._now()

    def lap(self, stage: str) -> None:
        """Give the time since the last lap to a stage."""
        now = self._now()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now
        if stage == "first_token" and self.first_token is None:
            self.first_token = now - self._started

    @property
    def total(self) -> Seconds:
        """Seconds of all laps."""
        return self._last - self._started

    def _now(self) -> Seconds:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Runner(Protocol):
    """A model that is ready, on its device, in its variant."""

    def __call__(self, clips: Sequence[np.ndarray], tokens: int, watch: Stopwatch) -> list[list[int]]:
        """Run a batch, lapping the watch after each stage.

        Args:
            clips: Samples (T,) of each clip, all of one length.
            tokens: Tokens that a decoder writes, whatever it would rather write.
            watch: Started already.

        Returns:
            The token ids of each clip.
        """

    def write(self, clips: Sequence[ProfileClip]) -> list[str]:
        """Decode clips freely: the texts that are scored."""

    def modules(self) -> torch.nn.Module | None:
        """Return the model whose modules the operator table names; None where there is none of torch's."""


def windows_of(subject: Subject, clips: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Cut clips into the windows that the encoder takes: first windows together, then the second ones, and so on."""
    if not subject.long_form:
        return [list(clips)]
    size = int(subject.longest_seconds * SAMPLE_RATE)
    longest = max(len(clip) for clip in clips)
    return [[clip[start : start + size] for clip in clips] for start in range(0, longest, size)]


@dataclass
class TorchRunner:
    """A transformers model, stage by stage.

    Attributes:
        subject: What is profiled.
        model: It, loaded, in its dtype and on its device.
        window: ``full`` or ``thinned``.
        static_cache: Whether keys and values lie in tensors of fixed size.
        encode: The encoder, or what stands for it (compiled).
        step: The whole model's forward, or what stands for it.
    """

    subject: Subject
    model: Any
    window: str = "full"
    static_cache: bool = False
    encode: Any = None
    step: Any = None

    def __post_init__(self) -> None:
        if self.encode is None:
            self.encode = self.model.get_encoder() if self.subject.has_decoder else self.model
        if self.step is None:
            self.step = self.model

    @torch.no_grad()
    def __call__(self, clips: Sequence[np.ndarray], tokens: int, watch: Stopwatch) -> list[list[int]]:
        """Run a batch, see :class:`Runner`."""
        written: list[torch.Tensor] = []
        for window in windows_of(self.subject, clips):
            batch = self.prepare(window)
            watch.lap("features")
            outputs = self.encode(**batch)
            watch.lap("encoder")
            written.append(self._write(outputs, batch, tokens, watch))
        ids = torch.cat(written, dim=1).tolist()
        if self.subject.writes:
            self.subject.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
            watch.lap("detokenise")
        return list(ids)

    def write(self, clips: Sequence[ProfileClip]) -> list[str]:
        """Decode clips freely; the model is not the compiled one, whose text is the same up to rounding."""
        options = {"cache_implementation": "static"} if self.static_cache else {}
        return FreeDecoding(self.subject, self.model, self.window, options)(clips)

    def modules(self) -> torch.nn.Module:
        """Return the model."""
        module: torch.nn.Module = self.model
        return module

    def prepare(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return a batch's inputs on the model's device, in its dtype."""
        batch = self.subject.inputs(self.model, clips, self.window)
        device, dtype = self.model.device, self.model.dtype
        return {
            name: value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
            for name, value in batch.items()
        }

    def _write(self, outputs: Any, batch: dict[str, torch.Tensor], tokens: int, watch: Stopwatch) -> torch.Tensor:
        """Return token ids (B, tokens): greedy, the end token treated as any other; a CTC head's best path."""
        if not self.subject.has_decoder:
            return outputs.logits.argmax(-1)
        options = {"encoder_outputs": outputs, "use_cache": True}
        if "attention_mask" in batch:
            options["attention_mask"] = batch["attention_mask"]
        clips = next(iter(batch.values())).shape[0]
        start = self.model.config.decoder_start_token_id
        token = torch.full((clips, 1), start, dtype=torch.long, device=self.model.device)
        cache, ids = self._cache(tokens), []
        for place in range(tokens):
            made = self.step(decoder_input_ids=token, past_key_values=cache, **options)
            cache = made.past_key_values
            token = made.logits[:, -1:].argmax(-1)
            ids.append(token)
            if place == 0:
                watch.lap("first_token")
        watch.lap("tokens")
        return torch.cat(ids, dim=1)

    def _cache(self, tokens: int) -> EncoderDecoderCache | None:
        if not self.static_cache:
            return None
        config, states = self.model.config, self.model.config.max_source_positions
        return EncoderDecoderCache(
            StaticCache(config, max_cache_len=tokens + 1), StaticCache(config, max_cache_len=states)
        )


def timed(runner: Runner, clips: Sequence[np.ndarray], tokens: int, device: torch.device) -> Stopwatch:
    """Run a batch once and return its watch."""
    watch = Stopwatch(device)
    watch.start()
    runner(clips, tokens, watch)
    return watch
