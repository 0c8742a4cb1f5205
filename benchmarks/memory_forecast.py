"""What training a Whisper takes in memory, by size and setting, without running it: shapes only, no weights, no GPU.

    python benchmarks/memory_forecast.py

Weights, gradients and AdamW's two states are counted exactly (4 bytes each for what is trained, the weights alone for
what is frozen). Activations are the distinct tensors that autograd keeps for the backward pass of one clip of 30 s with
64 label tokens, found by running the forward pass on tensors that have a shape and no content. Not in it: the CUDA
context (about 0.5 GB), the temporary buffers of matrix products, and fragmentation. So every figure is an estimate, and
a card wants about a tenth more.

Checked against one measurement: whisper-tiny, batch 8, float32 was seen to peak 2,320 MB above the loaded model (2 CPU
cores); counted here are 302 MB of optimiser states, 151 MB of gradients and 8 x 215 MB.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch._subclasses import FakeTensorMode
from transformers import WhisperConfig, WhisperForConditionalGeneration

# name: (width, layers of each side, heads, decoder layers, mel bins)
SIZES = {
    "tiny": (384, 4, 6, 4, 80),
    "base": (512, 6, 8, 6, 80),
    "small": (768, 12, 12, 12, 80),
    "medium": (1024, 24, 16, 24, 80),
    "large-v3": (1280, 32, 20, 32, 128),
    "large-v3-turbo": (1280, 32, 20, 4, 128),
}
PRESETS = Path(__file__).resolve().parents[1] / "recipes" / "presets"
WAYS = ("full", "frozen encoder", "LoRA, bf16 base")
TOKENS, GIB = 64, 2**30


class Kept:
    """Counts the distinct storages that autograd keeps; frozen and trained weights are no activations."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        self.bytes: dict[int, int] = {}
        self.alive: list[torch.Tensor] = []

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note a tensor and keep it alive, so that its storage's address is not used again."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            self.bytes[storage._cdata] = storage.nbytes()
            self.alive.append(tensor)
        return tensor

    def unpack(self, tensor: torch.Tensor) -> torch.Tensor:
        """Hand it back."""
        return tensor


def build(size: str, way: str) -> WhisperForConditionalGeneration:
    """Return a Whisper of shapes alone, frozen as ``way`` says; LoRA's matrices are not built, only counted."""
    width, layers, heads, decoder_layers, mels = SIZES[size]
    config = WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        num_mel_bins=mels,
        vocab_size=51866 if mels == 128 else 51865,
    )
    config._attn_implementation = "sdpa"
    model = WhisperForConditionalGeneration(config).train()
    if way == "frozen encoder":
        model.model.encoder.requires_grad_(False)
    return model


def activation_bytes(model: WhisperForConditionalGeneration, half: bool) -> int:
    """Return what one clip of 30 s keeps for the backward pass."""
    config = model.config
    features = torch.zeros(1, config.num_mel_bins, 2 * config.max_source_positions)
    tokens = torch.zeros(1, TOKENS, dtype=torch.long)
    kept = Kept(model)
    hooks = torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
        logits = model(input_features=features, decoder_input_ids=tokens, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten())
    # Autocast keeps a half copy of every weight matrix it multiplies with: no clip's, but the step's.
    weight_copies = sum(p.numel() * 2 for p in model.parameters() if p.requires_grad and p.dim() > 1) if half else 0
    return max(0, sum(kept.bytes.values()) - weight_copies)


def checkpointed_bytes(size: str, whole: int, way: str) -> int:
    """Return what is kept when layers are recomputed: each layer's float32 input, and one layer's insides at a time."""
    width, layers, _, decoder_layers, _ = SIZES[size]
    states = decoder_layers * TOKENS + (0 if way == "frozen encoder" else layers * 1500)
    deepest = decoder_layers if way == "frozen encoder" else layers
    return min(whole, 4 * states * width + whole // deepest)


def weight_bytes(model: WhisperForConditionalGeneration, way: str) -> int:
    """Return weights, gradients and optimiser states."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if way.startswith("LoRA"):
        # Rank 32 on every projection of attention and feed-forward: about 2 x 32 numbers for each row of a matrix.
        adapters = sum(32 * sum(p.shape) for name, p in model.named_parameters() if p.dim() == 2 and "layers" in name)
        return 2 * total + 16 * adapters
    return 4 * total + 12 * trained


def rows(sizes: Sequence[str]) -> list[str]:
    """Return the lines of the table."""
    lines = ["| size | trained | weights, gradients, AdamW | a clip, fp32 | a clip, bf16 | a clip, bf16, recomputed |"]
    lines.append("|---|---|---|---|---|---|")
    for size in sizes:
        for way in WAYS:
            with FakeTensorMode(allow_non_fake_inputs=True):
                model = build(size, way)
                full, half = activation_bytes(model, False), activation_bytes(model, True)
                fixed = weight_bytes(model, way)
            cells = (fixed, full, half, checkpointed_bytes(size, half, way))
            lines.append(f"| {size} | {way} | " + " | ".join(f"{cell / GIB:.2f} GiB" for cell in cells) + " |")
    return lines


def preset_bytes(size: str, way: str, training: Mapping[str, Any]) -> int:
    """Return what a preset's settings take in all: what is fixed, a micro-batch, and half-precision copies."""
    half = bool(training.get("bf16") or training.get("fp16"))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = build(size, way)
        clip, fixed = activation_bytes(model, half), weight_bytes(model, way)
    if training.get("activation_checkpointing"):
        clip = checkpointed_bytes(size, clip, way)
    # Autocast keeps a half-precision copy of the trained weights for the length of a step.
    copies = 0 if way.startswith("LoRA") or not half else 2 * (fixed // 16)
    return fixed + copies + clip * int(training["per_device_train_batch_size"])


def preset_rows(sizes: Sequence[str]) -> list[str]:
    """Return a line for each preset and way, a column a size."""
    lines = [f"| preset | trained | {' | '.join(sizes)} |", "|---|---|" + "---|" * len(sizes)]
    for path in sorted(PRESETS.glob("*.yaml")):
        training = yaml.safe_load(path.read_text(encoding="utf-8"))["training"]
        for way in WAYS:
            cells = [f"{preset_bytes(size, way, training) / 1e9:.1f}" for size in sizes]
            lines.append(f"| {path.stem} | {way} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    sizes = parser.parse_args().sizes
    print("\n".join(rows(sizes)))
    print("\nGB with each preset of recipes/presets:\n")
    print("\n".join(preset_rows(sizes)))


if __name__ == "__main__":
    main()
