"""How far a training step's peak lies above what autograd keeps: ``ABOVE_KEPT`` of hf_asr/training/fitting.py.

    python benchmarks/above_kept.py

whisper-tiny's dimensions, random weights, float32, on a CPU: forward and backward of a few shapes of batches, once
counted as ``hf-asr doctor --fit-batch-seconds`` counts (tensors that autograd keeps) and once by the profiler's
allocations (most bytes live above those before the step). The gradients are counted by themselves (weights' size), so
they are taken off the peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from rows_memory import highest
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import WhisperConfig, WhisperForConditionalGeneration

from hf_asr.features.collate import InputPadder, PlannedPadder, Seq2SeqCollator, WindowPadder
from hf_asr.features.positions import CLIP_BUCKET, Window
from hf_asr.models.losses import TOKENS
from hf_asr.models.whisper_thin import thinned
from hf_asr.training.fitting import ABOVE_KEPT, ABOVE_KEPT_WITH_LOGITS, WorstClip
from hf_asr.training.forecast import measure_step

CPU = SimpleNamespace(device=torch.device("cpu"), mixed_precision="no")
MELS, MB = 80, 1e6
DIMENSIONS = {"layers": 4, "attention_heads": 6, "ffn_dim": 1536}
# Window, clips, seconds of a clip, labels of a clip.
SHAPES = (("full", 1, 5, 24), ("thinned", 4, 5, 24), ("clip", 8, 5, 24), ("clip", 8, 2, 100))
PADDERS: Mapping[str, InputPadder] = {
    "full": WindowPadder(3000, MELS),
    "thinned": PlannedPadder(Window(1500, 25, 10, run=10), MELS),
    "clip": PlannedPadder(Window(1500, stride=0, bucket=CLIP_BUCKET), MELS),
}


def build() -> nn.Module:
    """Return a random Whisper of tiny's dimensions."""
    sides: dict[str, Any] = {
        f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in DIMENSIONS.items()
    }
    return thinned(WhisperForConditionalGeneration(WhisperConfig(d_model=384, **sides)))


def measure(model: nn.Module, shape: tuple[str, int, int, int], head: str | None) -> tuple[int, int]:
    """Return (bytes kept, highest bytes without the gradients) of a step."""
    window, clips, seconds, labels = shape
    rows = WorstClip(float(seconds), 100 * seconds, tuple([7] * labels)).rows(clips, MELS)
    batch = Seq2SeqCollator(PADDERS[window], 50257, 50256)(rows)
    kept = measure_step(model, batch, CPU, TOKENS, chunked_head=head)[1]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        measure_step(model, batch, CPU, TOKENS, chunked_head=head)
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return kept, highest(profiler) - gradients


def main() -> None:
    """Print one line a shape."""
    model = build()
    print("| window | clips | seconds | labels | chunked loss | kept, MB | peak, MB | peak / kept | taken |")
    print("|---|---|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        for head in ("proj_out", None):
            kept, peak = measure(model, shape, head)
            cells: list[Any] = [
                *shape,
                "yes" if head else "no",
                f"{kept / MB:.0f}",
                f"{peak / MB:.0f}",
                f"{peak / kept:.2f}",
            ]
            cells.append(ABOVE_KEPT if head else ABOVE_KEPT_WITH_LOGITS)
            print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
