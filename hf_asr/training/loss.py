"""The batch-invariant loss: the same examples give the same gradient, however they are cut into batches.

The stock Trainer takes a model whose ``forward`` accepts ``**kwargs`` to divide its loss by
``num_items_in_batch``. Whisper, Speech2Text, CTC models and classification heads accept the kwargs and ignore
them, so gradients and logged losses grow with ``gradient_accumulation_steps`` and again with the number of
processes (8 clips as 1 x 8 give 8 times the gradient of 8 x 1). Here the summed loss of each micro-batch is
divided by the label tokens of the whole optimiser step, counted over all processes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

IGNORED = -100


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return the cross-entropy summed over label tokens, in float32.

    Args:
        logits: (B, L, V), any floating type.
        labels: (B, L), ``-100`` where nothing is to be learnt.
        label_smoothing: Share of the target spread evenly over the vocabulary (Szegedy et al. 2016).

    Returns:
        A scalar; 0 (with zero gradients for every parameter) when all labels are ignored.
    """
    flat = logits.float().reshape(-1, logits.shape[-1])
    return functional.cross_entropy(
        flat, labels.reshape(-1), ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
    )


def count_items(labels: torch.Tensor) -> torch.Tensor:
    """Return the number of label tokens in ``labels`` (B, L) that are learnt."""
    return labels.ne(IGNORED).sum()


class ExactLossMixin:
    """Makes a ``Trainer`` divide by the items of the optimiser step; comes before ``Trainer`` in the bases.

    The host class calls :meth:`use_exact_loss` once its model is known.
    """

    args: Any
    accelerator: Any
    loss_is_scaled_for_ga: bool | None

    def use_exact_loss(self) -> None:
        """Have the Trainer count items for us and leave the loss as it is returned."""
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

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
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        smoothing = self.args.label_smoothing_factor if model.training else 0.0
        total = summed_cross_entropy(outputs.logits, labels, smoothing)
        items = count_items(labels) if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = total / items.to(total.device).clamp(min=1)
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss
