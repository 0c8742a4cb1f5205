"""From our sections to ``Seq2SeqTrainingArguments``: our defaults, then what the user gave, then the owners' values."""

from __future__ import annotations

import logging
import os
from typing import Any

from transformers import Seq2SeqTrainingArguments

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError

logger = logging.getLogger(__name__)

# Keys of the training section that are ours, not Seq2SeqTrainingArguments'.
OWN_KEYS = ("scheduler", "early_stopping_patience", "log_sample_ids", "resume_from_checkpoint")

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "warmup_steps": 0.1,  # below 1: a share of all steps
    "logging_steps": 25,
    "logging_first_step": True,
    "eval_strategy": "epoch",
    "save_total_limit": 2,
    "activation_checkpointing_kwargs": {"use_reentrant": False},
    "ddp_timeout": 7200,  # rank 0 may prepare features for long while the others wait
}

# Learning rates when the user gives none: full fine-tuning of a pretrained Whisper diverges above some 1e-5; with the
# encoder frozen less can break; LoRA's matrices start at zero and need 10 to 100 times more.
LEARNING_RATES = {"full": 1e-5, "frozen_encoder": 5e-5, "lora": 1e-3}


def strategy(arguments: Arguments) -> str:
    """Return how the model is adapted: ``lora``, ``frozen_encoder`` or ``full``."""
    if arguments.peft.method != "none":
        return "lora"
    return "frozen_encoder" if "encoder" in arguments.freeze.groups else "full"


def scheduler_arguments(scheduler: Any) -> dict[str, Any]:
    """Turn ``training.scheduler`` (a name, or a mapping with ``name``) into the Trainer's two keys."""
    if scheduler is None:
        return {}
    if isinstance(scheduler, str):
        return {"lr_scheduler_type": scheduler}
    rest = {key: value for key, value in scheduler.items() if key != "name"}
    return {"lr_scheduler_type": scheduler["name"], "lr_scheduler_kwargs": rest}


def saving_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Make checkpoints follow evaluations, so that the best of them can be kept."""
    result: dict[str, Any] = {}
    evaluation = str(given.get("eval_strategy", DEFAULTS["eval_strategy"]))
    if "save_strategy" not in given:
        result["save_strategy"] = "epoch" if evaluation == "no" else evaluation
        if evaluation == "steps" and "eval_steps" in given and "save_steps" not in given:
            result["save_steps"] = given["eval_steps"]
    if evaluation == "no":
        logger.info("training.eval_strategy is no: no early stopping, and best_checkpoint is the last checkpoint")
    return result


def num_workers(arguments: Arguments, processes: int, on_gpu: bool) -> int:
    """Return the loader's worker processes: ``auto`` is 0 on a CPU, whose cores the model needs, else up to 4."""
    if arguments.data.num_workers != "auto":
        return int(arguments.data.num_workers)
    cores = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count() or 1
    return min(4, max(1, cores // max(processes, 1))) if on_gpu else 0


def training_arguments(arguments: Arguments, **override: Any) -> Seq2SeqTrainingArguments:
    """Build the Trainer's arguments; the one place where our keys meet its names.

    Args:
        arguments: The whole configuration.
        override: Names of Seq2SeqTrainingArguments that a caller (a benchmark, a test) sets last.

    Raises:
        UserError: A value that the Trainer refuses.
    """
    given = {key: value for key, value in arguments.training.items() if key not in OWN_KEYS}
    rate = {}
    if "learning_rate" not in given:
        rate = {"learning_rate": LEARNING_RATES[strategy(arguments)]}
        logger.info("training.learning_rate is not given: %g, for %s", rate["learning_rate"], strategy(arguments))
    evaluates = str(given.get("eval_strategy", DEFAULTS["eval_strategy"])) != "no"
    owned = {
        "output_dir": str((arguments.run_dir / "checkpoints").resolve()),
        "run_name": arguments.experiment.name,
        "seed": arguments.experiment.seed,
        "data_seed": arguments.experiment.seed,
        "report_to": given.get("report_to", "none"),
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "average_tokens_across_devices": True,
        "disable_tqdm": True,
        "restore_callback_states_from_checkpoint": True,
        "per_device_eval_batch_size": arguments.evaluation.batch_size,
        "push_to_hub": False,
    }
    best = {"load_best_model_at_end": evaluates, "metric_for_best_model": "wer", "greater_is_better": False}
    values = {**DEFAULTS, **rate, **(best if evaluates else {}), **saving_arguments(given), **given, **owned}
    values |= scheduler_arguments(arguments.training.get("scheduler")) | override
    try:
        result = Seq2SeqTrainingArguments(**values)
    except (ValueError, TypeError) as error:
        raise UserError(f"training: expected values that Seq2SeqTrainingArguments takes, found: {error}") from error
    on_gpu = result.device.type != "cpu"
    result.dataloader_num_workers = num_workers(arguments, result.world_size, on_gpu)
    result.dataloader_pin_memory = on_gpu
    if result.dataloader_num_workers:
        result.dataloader_prefetch_factor = arguments.data.prefetch_factor
        result.dataloader_persistent_workers = True
    # One process drives one device: nn.DataParallel would average unequal token counts.
    result._n_gpu = min(result.n_gpu, 1)
    return result
