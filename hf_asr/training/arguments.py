"""From our sections to ``Seq2SeqTrainingArguments``: our defaults, then what the user gave, then the owners' values."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.integrations.integration_utils import get_available_reporting_integrations

from hf_asr.config.arguments import SPLITS, Arguments
from hf_asr.errors import UserError
from hf_asr.models import get_family
from hf_asr.training.schedulers import check_schedule, scheduler_arguments

logger = logging.getLogger(__name__)

# Keys of the training section that are ours, not Seq2SeqTrainingArguments'.
OWN_KEYS = ("chunked_loss", "scheduler", "early_stopping_patience", "ema", "log_sample_ids", "resume_from_checkpoint")

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "warmup_steps": 0.1,  # below 1: a share of all steps
    "logging_steps": 25,
    "logging_first_step": True,
    "logging_nan_inf_filter": False,  # it shows the average of earlier losses in place of a nan
    "eval_strategy": "epoch",
    "save_total_limit": 2,
    "activation_checkpointing_kwargs": {"use_reentrant": False},
    "ddp_timeout": 7200,  # rank 0 may prepare features for long while the others wait
}

# Half-precision types of weights, and the training key that computes in them.
HALVES = {"bfloat16": "bf16", "float16": "fp16"}

# Optimisers that look for their layers in the model, which is not loaded yet.
OF_THE_WHOLE_MODEL = ("galore", "apollo", "lomo", "adalomo")

# Learning rates when the user gives none: full fine-tuning of a pretrained Whisper diverges above some 1e-5; with the
# encoder frozen less can break; LoRA's matrices start at zero and need 10 to 100 times more. DoRA turns whole columns
# with the same matrices and takes half of that. A quantised base gives noisier gradients: QLoRA's own rate (Dettmers et
# al. 2023, 2e-4).
LEARNING_RATES = {
    "full": 1e-5,
    "frozen_encoder": 5e-5,
    "lora": 1e-3,
    "dora": 5e-4,
    "adalora": 1e-3,
    "quantised": 2e-4,
    "head": 1e-3,
}

# What the best checkpoint of families that do not write words is chosen by, and what is better when it is greater.
BEST_METRIC = {"classifier": "macro_f1", "regressor": "rmse"}
GREATER_IS_BETTER = ("accuracy", "macro_f1", "r2")


def strategy(arguments: Arguments) -> str:
    """Return how the model is adapted, a key of :data:`LEARNING_RATES`."""
    if arguments.peft.method != "none":
        return arguments.peft.method if arguments.model.quantization == "none" else "quantised"
    if "encoder" not in arguments.freeze.groups:
        return "full"
    return "head" if arguments.model.family in BEST_METRIC else "frozen_encoder"


def evaluates(arguments: Arguments) -> bool:
    """Tell whether training validates."""
    return str(arguments.training.get("eval_strategy", DEFAULTS["eval_strategy"])) != "no"


def needed_splits(arguments: Arguments) -> tuple[str, ...]:
    """Return the splits that a run reads: validation only where training validates."""
    return tuple(name for name in SPLITS if name != "validation" or evaluates(arguments))


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


@contextmanager
def refusals() -> Iterator[None]:
    """Tell what the Trainer refuses (values that exclude each other, a package that is not installed) in one line.

    Raises:
        UserError: It refuses something.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        if isinstance(error, UserError):
            raise
        found = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"training: expected values that go together and packages that are installed, found: {found}. "
            "Change or remove these keys."
        ) from error


def check_usable(arguments: Arguments, training: Seq2SeqTrainingArguments) -> None:
    """Look, before anything is loaded, for what would only stop the run when training begins.

    Raises:
        UserError: A tracker is not installed, half-precision weights would be trained, or this device cannot train
            with this attention or this way of sharing the weights.
    """
    assert isinstance(training.report_to, list)
    missing = set(training.report_to) - set(get_available_reporting_integrations())
    if missing:
        raise UserError(
            f"training.report_to: expected trackers that are installed, found {', '.join(sorted(missing))}. Install "
            "them (pip install 'hf_asr[trackers]' brings wandb, mlflow and trackio), or take them out: TensorBoard "
            "files are always written."
        )
    check_precision(arguments, training)
    check_adapting(arguments, training)
    check_schedule(training)
    if training.max_steps == 0:
        raise UserError("training.max_steps: expected 1 or more, or -1 for whole epochs, found 0. Set one of them.")
    if arguments.model.attn_implementation == "flex_attention" and training.device.type == "cpu":
        raise UserError(
            "model.attn_implementation: expected one that a CPU can train with, found flex_attention. Set sdpa."
        )
    check_sharing(arguments, training)
    if arguments.features.bank == "on" and get_family(arguments.model).name not in (*BEST_METRIC, "whisper"):
        raise UserError(
            "features.bank: expected off or auto for this model, since only a classifier and a Whisper read a bank, "
            "found on. Set features.bank=off."
        )


def shares_weights(arguments: Arguments) -> str:
    """Return what cuts the weights over processes (FSDP, ZeRO 3), in the YAML or by the launcher; empty for nothing."""
    if arguments.training.get("fsdp") or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return "FSDP"
    launched = os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"
    zero = launched and os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    return "DeepSpeed ZeRO 3" if zero or is_deepspeed_zero3_enabled() else ""


def check_sharing(arguments: Arguments, training: Seq2SeqTrainingArguments) -> None:
    """See that weights which are cut over processes can be, and that nothing needs them whole while training.

    Validation deals batches to processes, which then run a different number of forwards, and a cut weight takes all
    processes for each of them: they would wait for ever.

    Raises:
        UserError: There is no GPU, it validates while training, or adapters are trained.
    """
    found = shares_weights(arguments)
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true" or arguments.training.get("deepspeed")
    engine = found or ("DeepSpeed" if deepspeed else "")
    if engine and training.device.type == "cpu":
        raise UserError(
            f"training.{'fsdp' if engine == 'FSDP' else 'deepspeed'}: expected GPUs for {engine} (accelerate's does "
            "not run on CPUs), found none. Take it out of the YAML or the launcher's config file: on CPUs several "
            "processes train with DDP."
        )
    evaluated: Any = training.eval_strategy
    if found and training.world_size > 1 and evaluates(arguments):
        raise UserError(
            f"training.eval_strategy: expected no beside {found} on {training.world_size} processes, found "
            f"{evaluated.value}: validation needs the weights whole. Set training.eval_strategy=no (the "
            "last checkpoint is then scored on the test split), or use DDP or ZeRO 2."
        )
    if found and arguments.peft.method != "none":
        raise UserError(
            f"peft.method: expected none beside {found}, found {arguments.peft.method}: adapters are merged into whole "
            "weights, and are small enough for DDP. Use recipes/accelerate/multi_gpu.yaml."
        )


def check_precision(arguments: Arguments, training: Seq2SeqTrainingArguments) -> None:
    """See that what is trained is float32: bfloat16 keeps 8 bits, so an update below 1/256 of a weight is lost.

    Raises:
        UserError: Half-precision weights would be trained, or computed with in the other half precision.
    """
    dtype = arguments.model.dtype
    if dtype not in HALVES:
        return
    if arguments.peft.method == "none":
        raise UserError(
            f"model.dtype: expected auto or float32 for weights that are trained, found {dtype}. Set model.dtype=auto "
            f"with training.{HALVES[dtype]}=true for arithmetic in {dtype}, or train adapters: peft.method=lora"
        )
    if training.mixed_precision not in ("no", HALVES[dtype]):
        raise UserError(
            f"training.{training.mixed_precision}: expected arithmetic in the type of the weights, found model.dtype "
            f"{dtype}. Set training.{HALVES[dtype]}=true in its place, or model.dtype=auto."
        )


def check_adapting(arguments: Arguments, training: Seq2SeqTrainingArguments) -> None:
    """See that adapters get gradients, that groups thaw within the training, and that the optimiser is installed.

    Raises:
        UserError: One of them does not hold.
    """
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        options = arguments.training.get(name)
        if arguments.peft.method != "none" and isinstance(options, dict) and options.get("use_reentrant"):
            raise UserError(
                f"training.{name}.use_reentrant: expected false beside peft.method={arguments.peft.method} (layers "
                "whose inputs have no gradient would not be trained), found true. Remove it."
            )
    late = [epoch for epoch in arguments.freeze.unfreeze if epoch >= training.num_train_epochs]
    if late and training.max_steps <= 0:
        raise UserError(
            f"freeze.unfreeze: expected epochs below training.num_train_epochs ({training.num_train_epochs:g}; the "
            f"first is 0), found {late[0]}. Lower it, or train longer."
        )
    check_optimizer(training)


def check_optimizer(training: Seq2SeqTrainingArguments) -> None:
    """See that ``training.optim`` can be made; the Trainer would only say so when training begins.

    Raises:
        UserError: Its package is missing, or it cannot run here.
    """
    name = str(training.optim)
    if not name.startswith(OF_THE_WHOLE_MODEL):
        with refusals():
            Seq2SeqTrainer.get_optimizer_cls_and_kwargs(training)


def join_on_cpus(values: Mapping[str, Any]) -> None:
    """Have a launcher's processes on CPUs meet with ``ddp_timeout``: the Trainer gives it to those with GPUs alone."""
    if values.get("use_cpu") and int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
        PartialState(cpu=True, backend=values.get("ddp_backend"), timeout=timedelta(seconds=values["ddp_timeout"]))


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
    metric = str(given.get("metric_for_best_model", BEST_METRIC.get(arguments.model.family or "", "wer")))
    best = {
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": metric.removeprefix("eval_") in GREATER_IS_BETTER,
    }
    values = {**DEFAULTS, **rate, **(best if evaluates(arguments) else {}), **saving_arguments(given), **given, **owned}
    values |= scheduler_arguments(arguments.training.get("scheduler")) | override
    with refusals():
        join_on_cpus(values)
        result = Seq2SeqTrainingArguments(**values)
    check_usable(arguments, result)
    on_gpu = result.device.type != "cpu"
    result.dataloader_num_workers = num_workers(arguments, result.world_size, on_gpu)
    result.dataloader_pin_memory = on_gpu
    if result.dataloader_num_workers:
        result.dataloader_prefetch_factor = arguments.data.prefetch_factor
        result.dataloader_persistent_workers = True
    # One process drives one device: nn.DataParallel would average unequal token counts.
    result._n_gpu = min(result.n_gpu, 1)
    return result
