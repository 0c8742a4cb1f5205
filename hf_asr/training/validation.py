"""Validation between epochs: exact loss, and scores by the one road to hypotheses, in one pass where they can be."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch

from hf_asr.evaluation.scoring import REFERENCE, validation_scores
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.positions import WindowChoice
from hf_asr.inference.generate import DTYPES, Conditions, bare_model, generate_dataset, on_main, split_batches
from hf_asr.models.family import ModelFamily
from hf_asr.training.loss import summed_loss
from hf_asr.utterance import Drops

logger = logging.getLogger(__name__)

# accelerate's mixed precision to the name of the arithmetic it computes float32 weights in.
MIXED = {"bf16": "bfloat16", "fp16": "float16"}


class ValidationMixin:
    """Replaces ``Trainer.evaluate``; comes before ``Trainer`` in the bases."""

    family: ModelFamily
    validation: PreparedSplit | None
    conditions: Conditions
    normalizer: str
    validation_drops: Drops
    args: Any
    accelerator: Any
    model: Any
    eval_collator: Any
    eval_window: WindowChoice | None
    chunked_head: str | None
    processing_class: Any
    control: Any
    callback_handler: Any
    state: Any

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Score the validation split: exact loss, WER and counts by ``generate_dataset``."""
        assert self.validation is not None
        start = time.perf_counter()
        metrics = self.loss_and_scores()
        if self.conditions.bank:
            metrics["bank"] = True
        metrics["runtime"] = time.perf_counter() - start
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        host: Any = self
        host.log(named)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    def loss_and_scores(self) -> dict[str, float]:
        """Return loss and scores, of one pass over the split where both are computed in the same way."""
        if not self.one_pass():
            return {"loss": self.validation_loss(), **self.validation_scores()}
        loss = _LossSum(self)
        scores = self.validation_scores(loss.add)
        return {"loss": loss.mean(), **scores}

    def one_pass(self) -> bool:
        """Tell whether loss and texts are of the same batches in the same arithmetic, so that states can be shared."""
        host: Any = self
        if not self.family.encoder_inputs or host.is_fsdp_enabled or host.is_deepspeed_enabled:
            return False
        wanted, mixed = self.conditions.dtype, self.accelerator.mixed_precision
        stored = bare_model(self.model).dtype
        same = stored == DTYPES[wanted] if mixed == "no" else stored == torch.float32 and MIXED.get(mixed) == wanted
        return same and self.eval_window == self.conditions.choice()

    def validation_loss(self) -> float:
        """Return the loss per label token over the whole validation split and all processes."""
        assert self.validation is not None
        rows, loss = self.validation.rows, _LossSum(self)
        batches = split_batches(self.validation, self.eval_collator, self.conditions)
        for places in batches[self.args.process_index :: self.args.world_size]:
            loss.add(self.eval_collator([rows[place] for place in places]))
        return loss.mean()

    def validation_scores(self, before: Callable[[dict[str, Any]], None] | None = None) -> dict[str, float]:
        """Return the scores of the validation split: error rates and word counts, or those of classes or numbers.

        Args:
            before: Given each collated batch before it is decoded.
        """
        assert self.validation is not None
        model: Any = self.accelerator.unwrap_model(self.model)
        processor: Any = self.processing_class
        generated = generate_dataset(
            model, self.family, processor, self.validation, self.conditions, progress=False, before=before
        )
        if not self.validation_drops.total():
            self.validation_drops = generated.drops
            for line in generated.drops.lines():
                logger.warning("left out of validation: %s", line)
        scoring = self.family.scoring
        column = self.validation.column(REFERENCE[scoring])
        references = dict(zip(self.validation.column("id"), column, strict=True))
        texts = [references[hypothesis.id] for hypothesis in generated.hypotheses]
        hypotheses = [hypothesis.text for hypothesis in generated.hypotheses]
        return on_main(validation_scores, scoring, texts, hypotheses, self.normalizer)


class _LossSum:
    """The loss of batches, added up over a pass.

    Args:
        trainer: The trainer whose model it is, in training's arithmetic.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.model = trainer.accelerator.unwrap_model(trainer.model).eval()
        self.sums = torch.zeros(2, dtype=torch.float64, device=trainer.args.device)

    @torch.no_grad()
    def add(self, batch: dict[str, Any]) -> None:
        """Add a collated batch."""
        trainer, loss = self.trainer, self.trainer.family.loss
        inputs = trainer._prepare_inputs({k: v for k, v in batch.items() if k not in ("ids", "skipped")})
        with trainer.accelerator.autocast():
            total, _ = summed_loss(loss, self.model, inputs, chunked_head=trainer.chunked_head)
        self.sums += torch.stack([total.double(), loss.items(inputs["labels"]).double()])

    def mean(self) -> float:
        """Return the loss per item over all processes."""
        totals = self.trainer.accelerator.reduce(self.sums, reduction="sum")
        return float(totals[0] / totals[1].clamp(min=1))
