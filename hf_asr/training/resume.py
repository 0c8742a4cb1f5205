"""What must be as it was for a run to go on: asked before anything is loaded, refused with what has changed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_asr.config.adapting import HeadArguments
from hf_asr.config.arguments import Arguments
from hf_asr.config.augmentations import TRANSFORMS
from hf_asr.config.parser import load_arguments
from hf_asr.errors import UserError
from hf_asr.training.arguments import DEFAULTS

# Kept in the optimiser's state, which a resume brings back: another value would be read by nothing.
OF_THE_OPTIMIZER = ("optim", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon")
# With another value the curve of the losses has a kink at the resume that nothing tells of. Steps and epochs may
# change: who trains longer says so.
OF_THE_CURVE = ("scheduler", "lr_scheduler_type", "warmup_steps", "label_smoothing_factor", "max_grad_norm")
# Which clips there are and what they become. Paths may change: a disk is mounted elsewhere on another machine. How many
# clips there are is compared when training begins.
OF_THE_CLIPS = {
    "data": (
        "corpus",
        "subset",
        "language",
        "task",
        "columns",
        "text_pipeline",
        "filter_votes",
        "min_seconds",
        "max_seconds",
        "drop_suspicious",
        "level",
        "trim_silence",
        "batch_seconds",
        "pack",
        "pack_share",
        "pack_speakers",
        "pack_timestamps",
    ),
    "ctc": ("vocabulary",),
}
CLIPS_IN_A_STEP = "the number of clips in a step (batch x accumulation x processes)"
OF_A_STREAM = {"data": ("shuffle_buffer", "limit")}
OF_THE_MODEL = {
    "peft": ("method",),
    "freeze": ("groups", "last_n_encoder_layers", "unfreeze"),
    "model": (
        "quantization",
        "dtype",
        "language_token",
        "adapter_language",
        "window",
        "window_keep_seconds",
        "window_stride",
        "window_run",
        "window_mix",
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "layerdrop",
    ),
    "ctc": ("zero_infinity", "mask_time", "mask_feature"),
    "head": tuple(field.name for field in fields(HeadArguments)),
}
OF_ADAPTERS = {"peft": ("r", "alpha", "dropout", "target_modules"), "model": ("double_quant", "compute_dtype")}


def check_resume(arguments: Arguments, checkpoint: Path, processes: int) -> None:
    """See that nothing has changed that decides which clips come when, the losses, or what the optimiser's state is of.

    Args:
        arguments: The whole configuration.
        checkpoint: A whole checkpoint; one without our config.yaml (a plain Trainer's) is not compared.
        processes: How many there are now.

    Raises:
        UserError: Something has; all of it is told.
    """
    if not (checkpoint / "config.yaml").is_file():
        return
    before = what_decides(load_arguments([checkpoint / "config.yaml"]), processes_of(checkpoint, processes))
    now = what_decides(arguments, processes)
    if arguments.data.streaming and arguments.data.resume == "approximate":
        del now[CLIPS_IN_A_STEP]
    changed = [
        f"{name} is {_shown(now[name])}, was {_shown(before[name])}"
        for name in now
        if name in before and now[name] != before[name]
    ]
    if changed:
        raise UserError(
            f"training.resume_from_checkpoint: expected what {checkpoint} was trained with, found that "
            f"{'; '.join(changed)}. Set it back, or train anew under another experiment.name."
        )


def processes_of(checkpoint: Path, otherwise: int) -> int:
    """Return how many processes wrote a checkpoint, by its environment.json."""
    path = checkpoint / "environment.json"
    return int(json.loads(path.read_text())["processes"]) if path.is_file() else otherwise


def what_decides(arguments: Arguments, processes: int) -> dict[str, Any]:
    """Return what a resumed run must have as before, by its name in messages.

    Batch and accumulation may be cut anew: only their product with the processes decides a step.
    """
    training = DEFAULTS | arguments.training
    batch = training["per_device_train_batch_size"] * training.get("gradient_accumulation_steps", 1)
    decides = {
        "experiment.seed": arguments.experiment.seed,
        "data.streaming": arguments.data.streaming,
        "training.train_sampling_strategy": training.get("train_sampling_strategy", "random"),
        CLIPS_IN_A_STEP: batch * processes,
        "freeze.learning_rates": arguments.freeze.learning_rates,
    }
    decides |= {f"training.{name}": training.get(name) for name in (*OF_THE_OPTIMIZER, *OF_THE_CURVE)}
    decides["training.ema"] = training.get("ema") or "off"  # an average cannot begin, or be dropped, in the middle
    if arguments.data.sources:
        decides["the weights of data.sources"] = [source.get("weight") for source in arguments.data.sources]
    chosen = arguments.augment.chosen()
    decides |= {f"augment.{name}": _settings_of(chosen[name]) if name in chosen else "off" for name in TRANSFORMS}
    adapts, streams = arguments.peft.method != "none", arguments.data.streaming
    for keys in (OF_THE_CLIPS, OF_THE_MODEL, OF_ADAPTERS if adapts else {}, OF_A_STREAM if streams else {}):
        for section, names in keys.items():
            values = vars(vars(arguments)[section])
            decides |= {f"{section}.{name}": values[name] for name in names}
    return decides


def _settings_of(transform: Any) -> dict[str, Any]:
    """Return a transform's settings; of a folder its name, as of any path."""
    return {key: Path(value).name if key == "folder" and value else value for key, value in vars(transform).items()}


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)
