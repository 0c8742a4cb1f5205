"""A hash of what a module computes: its weights and settings, whatever it is called and wherever it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
import xxhash
from torch import nn


def weights_hash(module: nn.Module, settings: Mapping[str, Any]) -> str:
    """Return a hash of a module's weights, bit by bit, and of its settings, JSON-able."""
    digest = xxhash.xxh3_128(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
