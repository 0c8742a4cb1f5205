"""The batch-invariant loss: the same examples give the same gradient, however they are cut into batches.

The stock Trainer takes a model whose ``forward`` accepts ``**kwargs`` to divide its loss by
``num_items_in_batch``. Whisper, Speech2Text, CTC models and classification heads accept the kwargs and ignore
them, so gradients and logged losses grow with ``gradient_accumulation_steps`` and again with the number of
processes (8 clips as 1 x 8 give 8 times the gradient of 8 x 1). Here the summed loss of each micro-batch is
divided by the items (label tokens, or examples) of the whole optimiser step, counted over all processes.
"""

from __future__ import annotations

from typing import Any

import torch

from hf_asr.inference.generate import bare_model
from hf_asr.models.chunked_head import can_be_chunked, targets
from hf_asr.models.family import ModelFamily
from hf_asr.models.losses import TOKENS, Loss


def summed_loss(
    loss: Loss,
    model: torch.nn.Module,
    inputs: dict[str, Any],
    smoothing: float = 0.0,
    *,
    chunked_head: str | None = None,
) -> tuple[Any, Any]:
    """Run a micro-batch forward; return (its summed loss, the model's outputs).

    Args:
        loss: The family's.
        model: The model, wrapped or not.
        inputs: A collated batch on the model's device; ``labels`` are kept from the model.
        smoothing: ``training.label_smoothing_factor``.
        chunked_head: Name of a head that works the cross-entropy out itself; None to take the model's logits.
    """
    if chunked_head is not None:
        with targets(bare_model(model), chunked_head, inputs["labels"], smoothing):
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        return outputs.logits, outputs
    outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
    return loss.summed(bare_model(model), inputs, outputs, smoothing), outputs


class ExactLossMixin:
    """Makes a ``Trainer`` divide by the items of the optimiser step; comes before ``Trainer`` in the bases.

    The host class sets ``family`` and calls :meth:`use_exact_loss` once its model is known.
    """

    args: Any
    accelerator: Any
    family: ModelFamily
    exact_loss: Loss
    chunked_head: str | None
    loss_is_scaled_for_ga: bool | None

    def use_exact_loss(self, *, chunked: bool) -> None:
        """Have the Trainer count items for us and leave the loss as it is returned.

        Args:
            chunked: ``training.chunked_loss``; it holds where the head is a plain linear layer that is whole on this
                process, and nothing is compiled.
        """
        host: Any = self
        self.exact_loss = self.family.loss
        plain = not (host.is_fsdp_enabled or host.is_deepspeed_enabled or self.args.torch_compile)
        possible = self.exact_loss is TOKENS and can_be_chunked(bare_model(host.model), self.family.head)
        self.chunked_head = self.family.head if chunked and plain and possible else None
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        """Count the items of a step over all processes."""
        count = sum((self.exact_loss.items(batch["labels"]).to(device) for batch in batch_samples), torch.tensor(0))
        total: torch.Tensor = self.accelerator.reduce(torch.as_tensor(count, device=device), reduction="sum")
        return total

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return (summed loss) / (items of the step over all processes) x (number of processes).

        The last factor undoes the averaging of gradients that distributed training does.
        """
        smoothing = self.args.label_smoothing_factor if model.training else 0.0
        total, outputs = summed_loss(self.exact_loss, model, inputs, smoothing, chunked_head=self.chunked_head)
        items = self.exact_loss.items(inputs["labels"]) if num_items_in_batch is None else num_items_in_batch
        loss = total / torch.as_tensor(items, device=total.device).clamp(min=1)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss
