"""The proof that frozen weights did not move: a checksum of each before training, compared after it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainerCallback

from hf_asr.errors import UserError

logger = logging.getLogger(__name__)

# Elements that are summed at once: 32 MB of 64-bit numbers.
CHUNK = 2**22
# Bit patterns are read as whole numbers of the same size.
PATTERNS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# An odd number (2**63 over the golden ratio): odd weights are invertible modulo 2**64, so one changed element, whatever
# the change, always changes the sum; several cancel out with a chance of 2**-64.
SPREAD = 5_700_357_409_661_599_241


def checksum(tensor: torch.Tensor) -> int:
    """Return a 64-bit sum over the bits of a tensor, each element by its place; computed on the tensor's device."""
    flat = tensor.detach().contiguous().flatten()
    bits = flat.view(PATTERNS[flat.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for start in range(0, len(bits), CHUNK):
        part = bits[start : start + CHUNK].to(torch.int64)
        places = torch.arange(start, start + len(part), dtype=torch.int64, device=bits.device)
        total += (part * ((2 * places + 1) * SPREAD)).sum()
    return int(total)


def checksums(model: torch.nn.Module, names: Iterable[str]) -> dict[str, int]:
    """Return the checksums of the named parameters and buffers."""
    wanted = set(names)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: checksum(tensor) for name, tensor in tensors.items() if name in wanted}


def frozen_tensors(model: torch.nn.Module, trained_later: Iterable[str] = ()) -> set[str]:
    """Return the names of frozen parameters, and of buffers (running means) of modules that have only frozen ones.

    Args:
        model: The model as it is trained.
        trained_later: Parameters that are frozen only at first.
    """
    later = set(trained_later)
    parameters = {name: not parameter.requires_grad for name, parameter in model.named_parameters()}
    frozen = {name for name, still in parameters.items() if still and name not in later and "ranknum" not in name}
    for prefix, module in model.named_modules():
        own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
        if own and frozen.issuperset(own):
            frozen.update(f"{prefix}.{name}" for name, _ in module.named_buffers(recurse=False))
    return frozen


class FrozenCheck(TrainerCallback):
    """Ends a training with an error when what was to be frozen has moved; costs one pass over those weights twice."""

    def __init__(self, trained_later: Iterable[str] = ()) -> None:
        self.trained_later = set(trained_later)
        self.before: dict[str, int] = {}

    def on_train_begin(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        """Note what is frozen, and its checksums."""
        self.before = checksums(model, frozen_tensors(model, self.trained_later))

    def on_train_end(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        """Compare, the best checkpoint's weights being back in the model.

        Raises:
            UserError: Frozen weights are not what they were.
        """
        after = checksums(model, self.before)
        moved = [name for name, value in self.before.items() if after.get(name) != value]
        if moved:
            raise UserError(
                f"freeze: expected frozen weights to be the same bits after training, found {len(moved)} others "
                f"({', '.join(moved[:3])}). This is a fault of the program, not of the settings: please report it. "
                "The checkpoints are kept."
            )
        logger.info("%d frozen tensors are bit-identical after training", len(self.before))
