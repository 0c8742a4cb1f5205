"""The trainer: exact loss, exact order, exact resume, and validation by the one road to hypotheses."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import EarlyStoppingCallback, PrinterCallback, Seq2SeqTrainer, TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import ExportableState

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.features.bank_rows import BankedRows
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.collate import LABEL_BUCKET, Collator
from hf_asr.features.positions import WindowChoice
from hf_asr.inference.generate import Conditions, bare_model, to_device
from hf_asr.models.family import ModelFamily, collator_for
from hf_asr.training.adalora import AdaLoraMixin
from hf_asr.training.adapters import adapter_callbacks
from hf_asr.training.arguments import refusals
from hf_asr.training.callbacks import EpochMetrics, FinalEvaluation, RichProgress, SampleLog
from hf_asr.training.checkpoints import CheckpointMixin, saved_state, stopped_early
from hf_asr.training.ema import EmaMixin
from hf_asr.training.frozen_check import FrozenCheck
from hf_asr.training.hanging import READING, WAITING, Watch
from hf_asr.training.loader import LoaderMixin, take_batches
from hf_asr.training.loss import ExactLossMixin
from hf_asr.training.optimizer import OptimizerMixin
from hf_asr.training.preemption import SaveWhenStopped
from hf_asr.training.resources import Resources
from hf_asr.training.streams import StreamMixin
from hf_asr.training.unfreezing import UnfreezingMixin, unfreezing_plan
from hf_asr.training.validation import ValidationMixin
from hf_asr.utterance import Drops, Seconds

logger = logging.getLogger(__name__)


class TrainingChecks(TrainerCallback):
    """Hands the running loss of the checkpoint back once the Trainer has reset its own; sees that epochs have clips."""

    def __init__(self, trainer: SpeechTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Restore when this training resumes."""
        if self.trainer.resumed_from is not None:
            self.trainer.restore_running_loss(self.trainer.resumed_from)

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop where nothing is trained."""
        self.trainer.check_trained()
        if self.trainer.streams:
            self.trainer.end_epoch()


class SpeechTrainer(
    CheckpointMixin,
    ExactLossMixin,
    EmaMixin,
    AdaLoraMixin,
    UnfreezingMixin,
    StreamMixin,
    LoaderMixin,
    OptimizerMixin,
    ValidationMixin,
    Seq2SeqTrainer,
):
    """A Seq2SeqTrainer whose loss, order of examples and validation are exact (see docs/concepts.md).

    Args:
        family: The model's family.
        train: Prepared training split; map-style, or a stream.
        validation: Prepared validation split; None when nothing is evaluated.
        conditions: How validation decodes.
        normalizer: Text pipeline of the scoring side.
        learning_rates: Learning rate by parameter group (glob or family's name); the rest takes the common one.
        unfreeze: Epoch to the names of the frozen parameters that are trained from there on.
        ema: Decay of an average of the weights that validation and the end use; ``off`` for none.
        chunked_loss: The head works the cross-entropy out a few tokens at a time, where it can.
        sample_log: Where ids are written; None for no log.
        resume_approximately: A stream of shards may go on on another number of processes, at the start of an epoch.
        batch_seconds: Most padded seconds of a micro-batch; None for batches of a number of clips.
        eval_collator: Collates validation clips; by default as training ones.
        eval_window: The window that it pads for; without it loss and texts are each of a pass of their own.
        kwargs: What Seq2SeqTrainer takes.
    """

    def __init__(
        self,
        *,
        family: ModelFamily,
        train: PreparedSplit,
        validation: PreparedSplit | None,
        conditions: Conditions,
        normalizer: str,
        learning_rates: dict[str, float] | None = None,
        unfreeze: Mapping[int, list[str]] | None = None,
        ema: float | str = "off",
        chunked_loss: bool = True,
        sample_log: SampleLog | None = None,
        resume_approximately: bool = False,
        batch_seconds: Seconds | None = None,
        eval_collator: Collator | None = None,
        eval_window: WindowChoice | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(train_dataset=train.rows, eval_dataset=validation.rows if validation else None, **kwargs)
        self.family = family
        self.use_exact_loss(chunked=chunked_loss)
        self.train_split = train
        self.validation = validation
        self.conditions = conditions
        self.normalizer = normalizer
        self.learning_rates = dict(learning_rates or {})
        self.sample_log = sample_log
        self.resume_approximately = resume_approximately
        self.batch_seconds = batch_seconds
        self.eval_collator = eval_collator or self.data_collator
        self.eval_window = eval_window
        self.resumed_from: Path | None = None
        self.drops = Drops()
        self.validation_drops = Drops()
        self._named: set[str] = set()
        self._clips = 0
        self.clips_trained = 0
        self.watch = Watch(self.args.process_index, self.args.world_size, self.args.ddp_timeout)
        self.add_callback(self.watch)
        self.add_callback(TrainingChecks(self))
        self.use_plan(unfreeze or {})
        self.use_average(ema)
        for callback in adapter_callbacks(self.model):
            self.add_callback(callback)
        if not self.is_fsdp_enabled:  # a process has parts of weights only
            self.add_callback(FrozenCheck(self.thawing_names()))

    def stateful_callbacks(self) -> list[Any]:
        """Return the callbacks whose state a checkpoint keeps."""
        return [item for item in [*self.callback_handler.callbacks, self.control] if isinstance(item, ExportableState)]

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from the checkpoint folder ``resume_from_checkpoint`` when it is given."""
        self.resumed_from = Path(resume_from_checkpoint) if resume_from_checkpoint else None
        if self.resumed_from is not None:
            self.check_clips(self.resumed_from)
        try:
            result = super().train(str(self.resumed_from) if self.resumed_from else None, *args, **kwargs)
        except RuntimeError as error:
            if not self.watch.told:
                raise
            raise UserError(self.watch.told) from error  # gloo's own message names an address
        finally:
            self.watch.end()
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, SaveWhenStopped):
                    callback.give_back()
        self._share_drops()
        return result

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        try:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        except RuntimeError as error:  # torch's message has a line for each weight
            lines = str(error).strip().splitlines()
            raise UserError(
                f"training.resume_from_checkpoint: expected weights of this model in {resume_from_checkpoint}, found "
                f"others: {lines[min(1, len(lines) - 1)].strip()} Set model.name_or_path back, or train anew."
            ) from error

    def _init_training_state(self, max_steps: int, steps_an_epoch: int, epochs: int, *args: Any) -> tuple[int, int]:
        """Return where training begins; behind its last epoch when nothing is left to train.

        The Trainer would go on to the end of the epoch's next step in a run that ended inside an epoch.
        """
        begin: tuple[int, int] = super()._init_training_state(max_steps, steps_an_epoch, epochs, *args)
        if self.resumed_from is None:
            return begin
        begin = self.resume_stream(self.resumed_from) if self.streams else begin
        saved = saved_state(self.resumed_from)
        if saved["global_step"] < max_steps and not stopped_early(saved):
            return begin
        logger.info("%s is the end of a training: nothing is left to train", self.resumed_from.name)
        return epochs, 0

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Any]:
        """Take a step's micro-batches; keep what was skipped and, when asked, the ids."""
        self.watch.at(READING)
        batches = take_batches(epoch_iterator, num_batches)
        self.watch.at(WAITING)
        ids = [id for batch in batches for id in batch.pop("ids")]
        self._clips += len(ids)
        skipped = [item for batch in batches for item in batch.pop("skipped")]
        self._note_skipped(skipped)
        if self.streams:
            self.stream_clips += len(ids) + len(skipped)
            self._note_skipped(self.stream.take_drops())
            batches = self.pad_step(batches, num_batches)
        if self.sample_log is not None and batches:
            self._log_ids(ids)
        return batches, self._get_num_items_in_batch(batches, device)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, its features to the type of a frozen half-precision base."""
        return to_device(super()._prepare_inputs(inputs), bare_model(self.accelerator.unwrap_model(self.model)))

    def check_trained(self) -> None:
        """See that an epoch had clips; called at its end by all processes.

        Raises:
            UserError: None could be used, so nothing was learnt.
        """
        clips, self._clips = sum(gather_object([self._clips])), 0
        self.clips_trained += clips
        if not clips and not (self.streams and self.resumed_inside):
            found = "; ".join(self.drops.lines(3)) or "no clip at all"
            raise UserError(f"train: expected clips to train on, found none left: {found}. Check data.path.")

    def _share_drops(self) -> None:
        """Count on every process what any of them left out, and name it in the log of the main one."""
        mine = [(id, f"{reason}: {detail}") for reason, items in self.drops.reasons.items() for id, detail in items]
        self._note_skipped(gather_object(mine))

    def _note_skipped(self, skipped: list[tuple[str, str]]) -> None:
        for id, error in skipped:
            if id not in self._named:
                self._named.add(id)
                reason, _, detail = error.partition(": ")
                self.drops.add(reason, id, detail)
                logger.warning("left out of training: %s: %s", id, error)

    def _log_ids(self, ids: list[str]) -> None:
        by_rank = gather_object([ids]) if self.args.world_size > 1 else [ids]
        if self.args.should_save and self.sample_log is not None:
            self.sample_log.append(self.state.global_step + 1, by_rank)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log; a resumed training's mean loss is that of all its steps, whoever made them.

        Clips a second are counted: transformers takes steps x ``per_device_train_batch_size``, which batches by seconds
        do not have.
        """
        if "train_loss" in logs and self.state.global_step:
            logs["train_loss"] = self._total_loss_scalar / self.state.global_step
        if "train_samples_per_second" in logs:
            logs["train_samples_per_second"] = round(self.clips_trained / logs["train_runtime"], 3)
        super().log(logs, *args, **kwargs)


def build_trainer(
    arguments: Arguments,
    training: Any,
    family: ModelFamily,
    model: Any,
    processor: Any,
    prepared: Mapping[str, PreparedSplit],
    conditions: Conditions,
) -> SpeechTrainer:
    """Join model, data and callbacks of a run into its trainer."""
    run_dir = arguments.run_dir
    train, validation = prepared["train"], prepared.get("validation")
    evaluates = str(training.eval_strategy.value) != "no"
    if evaluates and validation is None:
        raise UserError(
            "training.eval_strategy: expected a validation split to evaluate on, found none. Give "
            "data.splits.validation, carve one with data.splits.held_out.validation, or set training.eval_strategy: no"
        )
    window = WindowChoice.of(arguments.model)
    mix, seed = arguments.model.window_mix, arguments.experiment.seed
    if mix and window.name == "full":
        logger.warning("model.window_mix: %g is of no effect, since model.window: full gives it to every batch", mix)
    bucket = LABEL_BUCKET if training.torch_compile else 1
    sample_log = SampleLog(run_dir) if arguments.training.get("log_sample_ids") else None
    # A classifier's states are rounded as a bank rounds them wherever they come from: no other condition.
    banked = validation is not None and isinstance(validation.rows, BankedRows) and family.scoring == "words"
    with refusals():
        trainer = SpeechTrainer(
            family=family,
            train=train,
            validation=validation if evaluates else None,
            conditions=replace(conditions, bank=banked),
            normalizer=arguments.evaluation.normalizer,
            learning_rates=arguments.freeze.learning_rates,
            unfreeze=unfreezing_plan(model, family, arguments.freeze),
            ema=arguments.training.get("ema") or "off",
            chunked_loss=bool(arguments.training.get("chunked_loss", True)),
            sample_log=sample_log,
            resume_approximately=arguments.data.resume == "approximate",
            batch_seconds=arguments.data.batch_seconds,
            model=model,
            args=training,
            data_collator=collator_for(
                family, processor, bare_model(model), window, mix=mix, seed=seed, label_multiple=bucket
            ),
            eval_collator=collator_for(family, processor, bare_model(model), window),
            eval_window=window,
            processing_class=processor,
            callbacks=[FinalEvaluation(), EpochMetrics(run_dir), RichProgress(), *([sample_log] if sample_log else [])],
        )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Resources(run_dir, lambda: trainer.clips_trained))
    trainer.add_callback(SaveWhenStopped())
    patience = arguments.training.get("early_stopping_patience", 3)
    if evaluates and patience:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=int(patience)))
    if training.should_save:
        trainer.add_callback(tensorboard(run_dir / "tensorboard"))
    return trainer


def tensorboard(folder: Path) -> TensorBoardCallback:
    """Return the Trainer's TensorBoard callback, writing into the run folder."""
    from torch.utils.tensorboard import SummaryWriter  # imports slowly, and only the main process needs it

    return TensorBoardCallback(SummaryWriter(log_dir=str(folder)))
