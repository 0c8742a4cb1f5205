"""The optimiser's parameter groups: learning rates by group of the family, no weight decay on norms and biases."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Any

import torch

from hf_asr.errors import UserError
from hf_asr.models.family import ModelFamily
from hf_asr.training.freezing import group_globs
from hf_asr.training.schedulers import make_schedule

# What get_peft_model puts before every name.
ADAPTED = "base_model.model."
# Optimisers that make their parameter groups themselves give them under one of these.
OWN_GROUPS = ("params", "model", "optimizer_dict")


class OptimizerMixin:
    """Makes a ``Trainer`` build its optimiser from groups; comes before ``Trainer`` in the bases.

    The host class sets ``family`` and ``learning_rates`` (parameter group, a glob or the family's name, to its rate).
    """

    family: ModelFamily
    learning_rates: dict[str, float]
    args: Any
    model: Any
    optimizer: Any
    lr_scheduler: Any
    optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Group parameters by learning rate and decay, then let the Trainer build the optimiser.

        Raises:
            UserError: The optimiser makes groups of its own, which know one learning rate only.
        """
        if self.optimizer is None and (self.learning_rates or self.not_yet_trained()):
            target: Any = self.model if model is None else model
            host: Any = self
            optimizer_class, options = host.get_optimizer_cls_and_kwargs(self.args, target)
            if set(OWN_GROUPS) & set(options):
                raise UserError(
                    "training.optim: expected an optimiser that takes parameter groups, as freeze.learning_rates and "
                    f"freeze.unfreeze need, found {self.args.optim.value}. Set adamw_torch."
                )
            names = {name for name, parameter in target.named_parameters() if parameter.requires_grad}
            groups = self.parameter_groups(target, names - self.not_yet_trained())
            self.optimizer_cls_and_kwargs = (optimizer_class, {**options, "params": groups})
        built: torch.optim.Optimizer = super().create_optimizer(model)  # type: ignore[misc]
        return built

    def not_yet_trained(self) -> set[str]:
        """Return the names of parameters that join the optimiser later; none here."""
        return set()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the schedule of ``training.scheduler``, the Trainer's own and ours alike."""
        if self.lr_scheduler is None:
            used = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = make_schedule(self.args, used, num_training_steps)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Return what weight decay applies to: matrices and convolutions, neither biases nor gains of any norm.

        The Trainer's list goes by ``nn.LayerNorm`` and by names. A vector is a bias, a gain or a single embedding
        whatever it is called, DoRA's magnitudes included: it is left out.
        """
        shapes = {name: parameter.ndim for name, parameter in model.named_parameters()}
        listed: list[str] = super().get_decay_parameter_names(model)  # type: ignore[misc]
        return [name for name in listed if shapes.get(name, 2) > 1]

    def parameter_groups(self, model: Any, names: Collection[str]) -> list[dict[str, Any]]:
        """Return the named parameters in groups of one learning rate and one weight decay each."""
        decayed = set(self.get_decay_parameter_names(model))
        groups: dict[tuple[float, float], list[Any]] = {}
        for name, parameter in model.named_parameters():
            if name in names:
                decay = self.args.weight_decay if name in decayed else 0.0
                groups.setdefault((self._rate_of(name), decay), []).append(parameter)
        return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]

    def _rate_of(self, name: str) -> float:
        """Return a parameter's learning rate; of groups that share it, the one named last decides."""
        bare, rate = name.removeprefix(ADAPTED), self.args.learning_rate
        for group, own in self.learning_rates.items():
            if any(fnmatchcase(bare, glob) for glob in group_globs(self.family, group)):
                rate = own
        return float(rate)
