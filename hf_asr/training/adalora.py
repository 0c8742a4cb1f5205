"""AdaLoRA (Zhang et al. 2023, "Adaptive budget allocation for parameter-efficient fine-tuning") under the Trainer.

An update is ``B diag(E) A``; after each step the entries of E that matter least are set to 0 until the ranks left are
``peft.r`` on average. peft needs three things beside the optimiser's steps, all given here: the number of steps, a call
after each of them, and the penalty on ``A A^T - I`` and ``B^T B - I``, which its wrapper adds to a loss that the model
returns, and ours is computed outside the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

# The budget starts at 1.5 times the ranks asked for, as in the paper.
START_SHARE = 1.5
# Shares of all steps before ranks are taken away, and after the last one has been.
WARM_SHARE, FINAL_SHARE = 0.1, 0.4
# Ranks are taken away this many times at most.
ALLOCATIONS = 100
STATE_FILE = "adalora.pt"


def orthogonality(model: nn.Module) -> tuple[torch.Tensor, list[nn.Parameter]]:
    """Return the mean distance of A and B of all adapters from orthogonality (Frobenius), and those parameters."""
    distances, found = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (".lora_A." in name or ".lora_B." in name):
            # A is (rank, inputs), B (outputs, rank).
            product = parameter @ parameter.T if ".lora_A." in name else parameter.T @ parameter
            distances.append(torch.linalg.norm(product - torch.eye(len(product), device=product.device)))
            found.append(parameter)
    return torch.stack(distances).mean(), found


class AdaLora(TrainerCallback):
    """Gives peft's AdaLoRA its schedule, its penalty and its call after every step; its state goes into checkpoints.

    The ranks that are left are kept here and not in the adapter's config: peft saves matrices without the others, and
    such a checkpoint cannot be read into the model that goes on training. Entries at 0 do the same.

    Args:
        model: The peft model with an AdaLoRA adapter named ``default``.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.peft_config["default"]
        self.allocator = model.base_model.rankallocator
        self.pattern: dict[str, list[bool]] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Lay the phases out over the steps that there are."""
        steps = state.max_steps
        self.config.total_step = steps
        self.config.tinit = int(WARM_SHARE * steps)
        # Ranks are taken away for good at the step tfinal before the last, which has to come after two others.
        self.config.tfinal = max(1, int(FINAL_SHARE * steps)) if steps > 2 else 0
        self.config.deltaT = max(1, steps // ALLOCATIONS)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the penalty's gradient, once a step whatever its cut into batches; it is in no logged loss."""
        penalty, parameters = orthogonality(self.model)
        slopes = torch.autograd.grad(self.config.orth_reg_weight * penalty, parameters)
        for parameter, slope in zip(parameters, slopes, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(slope)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Weigh the entries by their gradients, which are still there, and take some away."""
        self.config.rank_pattern = self.pattern
        try:
            self.model.base_model.update_and_allocate(state.global_step)
            self.pattern = self.config.rank_pattern
        finally:
            self.config.rank_pattern = None

    def save(self, folder: Path) -> None:
        """Write what the next allocation depends on."""
        kept = {"pattern": self.pattern, **{name: vars(self.allocator)[name] for name in _SCORES}}
        torch.save(kept, folder / STATE_FILE)

    def load(self, folder: Path) -> None:
        """Read it back."""
        kept = torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
        self.pattern = kept["pattern"]
        for name in _SCORES:
            scores = {key: value.to(self.model.device) for key, value in kept[name].items()}
            setattr(self.allocator, name, scores)


# Importance of each entry and its running means, in peft's allocator.
_SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class AdaLoraMixin:
    """Saves and loads the state of an :class:`AdaLora` callback with a ``Trainer``'s optimiser."""

    args: Any
    callback_handler: Any

    def _adalora(self) -> Iterator[AdaLora]:
        return (callback for callback in self.callback_handler.callbacks if isinstance(callback, AdaLora))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        for callback in self._adalora():
            if self.args.should_save:
                callback.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        for callback in self._adalora():
            if checkpoint is not None:
                callback.load(Path(checkpoint))
