"""Unfreezing by epoch: groups that are frozen at first join the optimiser, with a rate and a warm-up of their own.

Before its epoch a group has no gradient, no optimiser state and no place in the gradient norm. Under DDP, which only
knows the parameters that could be trained when it wrapped the model, it is trainable for the moment of wrapping;
``find_unused_parameters`` then lets steps pass without it. (Wrapping anew at the epoch would leave the old wrapper's
hooks on the same parameters, as the Trainer's loop holds it.)
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback

from hf_asr.config.arguments import FreezeArguments
from hf_asr.errors import UserError
from hf_asr.models.family import ModelFamily
from hf_asr.training.checkpoints import saved_state
from hf_asr.training.freezing import frozen_names, names_of_group, set_trainable
from hf_asr.training.schedulers import join_schedule, raise_warming_groups

logger = logging.getLogger(__name__)


def untrainable_names(model: PreTrainedModel) -> set[str]:
    """Return the parameters that the architecture itself never trains, such as Whisper's sinusoidal positions."""
    with torch.device("meta"):
        fresh = type(model)(copy.deepcopy(model.config))
    return {name for name, parameter in fresh.named_parameters() if not parameter.requires_grad}


def unfreezing_plan(model: PreTrainedModel, family: ModelFamily, freeze: FreezeArguments) -> dict[int, list[str]]:
    """Return the names of the parameters that join at each epoch of ``freeze.unfreeze``.

    Raises:
        UserError: A group matches nothing, or nothing of it is frozen by then.
    """
    if not freeze.unfreeze:
        return {}
    left = frozen_names(model, family, freeze) - untrainable_names(model)
    plan: dict[int, list[str]] = {}
    for epoch, groups in sorted(freeze.unfreeze.items()):
        for group in groups:
            found = [name for name in names_of_group(model, family, group) if name in left]
            if not found:
                raise UserError(
                    f"freeze.unfreeze.{epoch}: expected a group that is frozen until then, found '{group}', of which "
                    "nothing is. Name it in freeze.groups, or take it out of freeze.unfreeze."
                )
            left -= set(found)
            plan.setdefault(epoch, []).extend(found)
    return plan


def epoch_of(checkpoint: Path) -> int:
    """Return the epoch, from 0, inside which a checkpoint was saved; one at the end of an epoch belongs to it."""
    return max(0, math.ceil(saved_state(checkpoint)["epoch"]) - 1)


class WarmUp(TrainerCallback):
    """Raises the rates of unfrozen groups under schedules that only reduce."""

    def on_step_end(self, *args: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Go one step on."""
        raise_warming_groups(optimizer)


class UnfreezingMixin:
    """Adds the parameters of ``plan`` to a ``Trainer``'s optimiser at their epochs; comes before ``OptimizerMixin``.

    The host class calls :meth:`use_plan` once its model is known.
    """

    plan: dict[int, list[str]]
    _waiting: dict[int, list[str]]
    args: Any
    model: Any
    optimizer: Any
    lr_scheduler: Any
    accelerator: Any

    def use_plan(self, plan: Mapping[int, list[str]]) -> None:
        """Take the epochs and the names that join at them.

        Raises:
            UserError: The training is distributed in a way that cannot gain parameters.
        """
        host: Any = self
        self.plan, self._waiting = dict(plan), {}
        self._steps_an_epoch = self._total_steps = 0
        if not plan:
            return
        if host.is_deepspeed_enabled or host.is_fsdp_enabled:
            raise UserError(
                "freeze.unfreeze: expected one process a device or DDP, found DeepSpeed or FSDP, whose shards are laid "
                "out once for what is trained. Remove freeze.unfreeze, or use DDP."
            )
        if self.args.ddp_find_unused_parameters is False or self.args.ddp_static_graph:
            raise UserError(
                "training.ddp_find_unused_parameters: expected true beside freeze.unfreeze (steps pass without the "
                "frozen groups), found false or a static graph. Remove these keys."
            )
        # The Trainer leaves it off beside gradient checkpointing, which only its re-entrant kind needs.
        if self.accelerator.ddp_handler is not None:
            self.accelerator.ddp_handler.find_unused_parameters = True
        host.add_callback(WarmUp())

    def not_yet_trained(self) -> set[str]:
        """Return the names of parameters whose epoch is still to come."""
        return {name for names in self._waiting.values() for name in names}

    def thawing_names(self) -> set[str]:
        """Return the names of all parameters that are trained in some epoch only."""
        return {name for names in self.plan.values() for name in names}

    def _init_training_state(self, max_steps: int, steps_an_epoch: int, epochs: int, *args: Any) -> Any:
        self._total_steps, self._steps_an_epoch = max_steps, steps_an_epoch
        late = [epoch for epoch in self.plan if epoch >= epochs]
        if late:
            raise UserError(
                f"freeze.unfreeze: expected epochs below {epochs}, which this training has (the first is 0), found "
                f"{late[0]}. Lower it, or raise training.num_train_epochs."
            )
        return super()._init_training_state(max_steps, steps_an_epoch, epochs, *args)  # type: ignore[misc]

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        self._waiting = dict(self.plan)
        set_trainable(self.model, self.thawing_names(), True)  # for the moment in which DDP wraps
        prepared = super()._prepare_for_training(*args, **kwargs)  # type: ignore[misc]
        set_trainable(self.model, self.not_yet_trained(), False)
        return prepared

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Add the groups that the checkpoint's optimiser had, then load it."""
        if checkpoint is not None and self.plan:
            self.unfreeze_until(epoch_of(Path(checkpoint)))
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        self.unfreeze_until(kwargs["epoch"])
        super()._run_epoch(*args, **kwargs)  # type: ignore[misc]

    def unfreeze_until(self, epoch: int) -> None:
        """Train from now on what waits for an epoch up to this one."""
        for due in sorted(waiting for waiting in self._waiting if waiting <= epoch):
            names = set(self._waiting.pop(due))
            set_trainable(self.model, names, True)
            self._add_groups(names, due * self._steps_an_epoch)
            size = sum(parameter.numel() for name, parameter in self.model.named_parameters() if name in names)
            logger.info("epoch %d: %s parameters more are trained", due, f"{size:,}")

    def _add_groups(self, names: set[str], start: int) -> None:
        """Add the named parameters to optimiser and schedule; both in the same order at every run."""
        host: Any = self
        before = len(self.optimizer.param_groups)
        for group in host.parameter_groups(self.model, names):
            self.optimizer.add_param_group(group)
        length = warmup_length(self.args.get_warmup_steps(self._total_steps), self._total_steps - start)
        join_schedule(self.lr_scheduler, self.optimizer.param_groups[before:], start, length)


def warmup_length(wanted: int, left: int) -> int:
    """Return the steps of an unfrozen group's warm-up: the run's own number, but at most half of the steps left."""
    return max(1, min(wanted, left // 2))
