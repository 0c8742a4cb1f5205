"""An exponential moving average of the trained weights (Polyak and Juditsky 1992), by ``training.ema``.

After every step ``average = d * average + (1 - d) * weights`` with ``d = min(decay, (1 + step) / (10 + step))``: the
ramp of TensorFlow's ExponentialMovingAverage lets a short training forget its start. Validation, test and
``best_checkpoint`` use the average; the optimiser goes on with the weights themselves.

Memory: one more float32 copy of what is trained, on its device: 0.97 GB for whisper-small (244 million parameters), a
few MB with adapters. A checkpoint grows by the same. Switching to the average and back exchanges values in place, one
tensor at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from hf_asr.errors import UserError

EMA_FILE = "ema.safetensors"


class WeightAverage:
    """The average of a model's trained parameters, by name.

    Args:
        decay: Weight of the past, such as 0.999.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after ``step`` steps; what is trained from now on joins as it is."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                if name not in self.values:
                    self.values[name] = parameter.detach().clone()
                self.values[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def exchange(self, model: nn.Module) -> None:
        """Put the average into the model and the model's weights here; a second time undoes it, to the last bit."""
        parameters = dict(model.named_parameters())
        for name, value in self.values.items():
            kept = parameters[name].detach().clone()
            parameters[name].copy_(value)
            value.copy_(kept)

    @contextmanager
    def used(self, model: nn.Module) -> Iterator[None]:
        """Have the model be the average for a while."""
        self.exchange(model)
        try:
            yield
        finally:
            self.exchange(model)

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        save_file({name: value.contiguous() for name, value in self.values.items()}, folder / EMA_FILE)

    def load(self, folder: Path, device: torch.device | str) -> None:
        """Read the average of a checkpoint.

        Raises:
            UserError: It has none.
        """
        if not (folder / EMA_FILE).is_file():
            raise UserError(
                f"training.ema: expected {EMA_FILE} in {folder}, found none: that training kept no average. Set "
                "training.ema=off, or train anew under another experiment.name."
            )
        # Not by load_file's own device: it refuses the "cpu:0" of a process among several.
        self.values = {name: value.to(device) for name, value in load_file(folder / EMA_FILE).items()}


class EmaUpdate(TrainerCallback):
    """Averages after every optimiser step."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Begin with the weights as they are, unless a checkpoint's average is there."""
        if not self.average.values:
            self.average.update(model, 0)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Take the step in."""
        self.average.update(model, state.global_step)


class EmaMixin:
    """Makes a ``Trainer`` keep, evaluate and end with averaged weights; comes before all that evaluates or saves.

    The host class calls :meth:`use_average` once its model is known.
    """

    average: WeightAverage | None
    args: Any
    model: Any
    state: Any

    def use_average(self, decay: float | str) -> None:
        """Keep an average; ``off`` keeps none.

        Raises:
            UserError: The weights are cut into shards, of which no process has a whole parameter.
        """
        host: Any = self
        self.average = None
        if decay == "off":
            return
        if host.is_deepspeed_enabled or host.is_fsdp_enabled:
            raise UserError(
                "training.ema: expected one process a device or DDP, found DeepSpeed or FSDP. Set it to off."
            )
        self.average = WeightAverage(float(decay))
        host.add_callback(EmaUpdate(self.average))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate the average."""
        host: Any = super()
        if self.average is None:
            scores: dict[str, float] = host.evaluate(*args, **kwargs)
            return scores
        with self.average.used(self.model):
            scores = host.evaluate(*args, **kwargs)
        return scores

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        if self.average is not None and self.args.should_save:
            self.average.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if self.average is not None and checkpoint is not None:
            self.average.load(Path(checkpoint), self.args.device)

    def _load_best_model(self) -> None:
        super()._load_best_model()  # type: ignore[misc]
        if self.average is not None:
            self.average.load(Path(self.state.best_model_checkpoint), self.args.device)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """End with the average in the model: the best checkpoint's, or the last one."""
        result = super()._finalize_training(*args, **kwargs)  # type: ignore[misc]
        if self.average is not None:
            self.average.exchange(self.model)
        return result
