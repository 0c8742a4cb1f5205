"""Validation between epochs: exact loss, then scores by the one road to hypotheses."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch

from hf_asr.evaluation.scoring import REFERENCE, validation_scores
from hf_asr.features.cache import PreparedSplit
from hf_asr.inference.generate import Conditions, generate_dataset, split_batches
from hf_asr.models.family import ModelFamily
from hf_asr.training.loss import summed_loss
from hf_asr.utterance import Drops

logger = logging.getLogger(__name__)


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
        """Score the validation split: exact loss, then WER and counts by ``generate_dataset``."""
        assert self.validation is not None
        start = time.perf_counter()
        metrics = {"loss": self.validation_loss(), **self.validation_scores()}
        if self.conditions.bank:
            metrics["bank"] = True
        metrics["runtime"] = time.perf_counter() - start
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        host: Any = self
        host.log(named)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Return the loss per label token over the whole validation split and all processes."""
        assert self.validation is not None
        model: Any = self.accelerator.unwrap_model(self.model).eval()
        host: Any = self
        rows = self.validation.rows
        batches = split_batches(self.validation, self.eval_collator, self.conditions)
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for places in batches[self.args.process_index :: self.args.world_size]:
            batch = self.eval_collator([rows[place] for place in places])
            inputs = host._prepare_inputs({k: v for k, v in batch.items() if k not in ("ids", "skipped")})
            with self.accelerator.autocast():
                total, _ = summed_loss(self.family.loss, model, inputs, chunked_head=self.chunked_head)
            sums += torch.stack([total.double(), self.family.loss.items(inputs["labels"]).double()])
        totals = self.accelerator.reduce(sums, reduction="sum")
        return float(totals[0] / totals[1].clamp(min=1))

    def validation_scores(self) -> dict[str, float]:
        """Return the scores of the validation split: error rates and word counts, or those of classes or numbers."""
        assert self.validation is not None
        model: Any = self.accelerator.unwrap_model(self.model)
        processor: Any = self.processing_class
        generated = generate_dataset(model, self.family, processor, self.validation, self.conditions, progress=False)
        if not self.validation_drops.total():
            self.validation_drops = generated.drops
            for line in generated.drops.lines():
                logger.warning("left out of validation: %s", line)
        scoring = self.family.scoring
        column = self.validation.column(REFERENCE[scoring])
        references = dict(zip(self.validation.column("id"), column, strict=True))
        texts = [references[hypothesis.id] for hypothesis in generated.hypotheses]
        return validation_scores(scoring, texts, [h.text for h in generated.hypotheses], self.normalizer)
