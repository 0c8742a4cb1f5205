"""Our side, by the package's own road: what recipes/finetune_seq2seq.py calls, in its order, on one page."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from setting import Setting

from hf_asr.config.arguments import Arguments, ModelArguments
from hf_asr.config.parser import load_arguments
from hf_asr.data.corpora import build_splits
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.prepare import prepare_splits
from hf_asr.inference.generate import Conditions, resolve_conditions
from hf_asr.models import get_family
from hf_asr.training.adapters import make_trainable
from hf_asr.training.arguments import training_arguments
from hf_asr.training.bank import prepare_with_bank
from hf_asr.training.trainer import SpeechTrainer, build_trainer

_NUMBERS = itertools.count()
# The window that passed gate b of benchmarks/gates.py (docs/thinned_silence.md).
GATED_STRIDE = 20
GATED = ("model.window=thinned", f"model.window_stride={GATED_STRIDE}")


@dataclass
class Ours:
    """What a run of ours consists of, ready to train.

    Attributes:
        arguments: Its configuration.
        trainer: Its trainer.
        prepared: Its splits.
        conditions: How it decodes.
        family: Its family.
        processor: Its processor.
    """

    arguments: Arguments
    trainer: SpeechTrainer
    prepared: dict[str, PreparedSplit]
    conditions: Conditions
    family: Any
    processor: Any


def described(model: ModelArguments) -> str:
    """Return what a thinned window keeps, for a table."""
    runs = f"in runs of {model.window_run}"
    return f"thinned, stride {model.window_stride} {runs}, keep {model.window_keep_seconds} s"


def configuration(setting: Setting, *overrides: str) -> Arguments:
    """Return the configuration: the stock side's clips, batch, optimiser and dtype, then ``key=value``."""
    name, manifest = f"ours{next(_NUMBERS)}", str(setting.speech.manifest)
    tree = {
        "experiment": {"name": name, "output_dir": str(setting.folder / "runs")},
        "model": {"name_or_path": str(setting.checkpoint)},
        "data": {
            "corpus": "manifest",
            "path": manifest,
            "language": "en",
            "splits": {"train": manifest, "validation": manifest, "test": manifest},
            "columns": {"duration": "seconds"},
            "num_workers": 0,
        },
        "features": {"cache_dir": str(setting.folder / "features")},
        "evaluation": {"batch_size": setting.batch},
        "training": {
            "per_device_train_batch_size": setting.batch,
            "learning_rate": 1e-5,
            "optim": "adamw_torch_fused",
            "bf16": torch.cuda.is_available(),
            "save_strategy": "no",
            "eval_strategy": "no",
            "max_steps": 2,
        },
    }
    path = setting.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load_arguments([str(path)], list(overrides))


def shipped_window(setting: Setting) -> str:
    """Return in words what ``model.window: thinned`` is without further keys."""
    return described(configuration(setting).model)


def trained_window(setting: Setting) -> str:
    """Return in words the thinned window that passed gate b: of all, the one that may be trained on."""
    return described(configuration(setting, *GATED).model)


def load_encoder(arguments: Arguments) -> ClipEncoder:
    """Load what encodes rows; no weights."""
    family = get_family(arguments.model)
    processor = family.load_processor(arguments, None)
    return family.make_encoder(processor, family.load_config(arguments, processor), arguments)


def prepared_splits(arguments: Arguments, encoder: ClipEncoder, *names: str) -> dict[str, PreparedSplit]:
    """Read and encode splits, as a recipe does before it trains."""
    splits = build_splits(arguments.data, seed=arguments.experiment.seed, names=names)
    return prepare_splits(splits, encoder, arguments)


def assemble(setting: Setting, *overrides: str, splits: tuple[str, ...] = ("train",)) -> Ours:
    """Load, prepare and join everything, as a recipe does.

    Args:
        setting: The clips and the checkpoint.
        overrides: ``key=value`` of the configuration.
        splits: Splits that are read; ``validation`` where the trainer evaluates.
    """
    arguments = configuration(setting, *overrides)
    Path(arguments.run_dir).mkdir(parents=True)
    training = training_arguments(arguments)
    family = get_family(arguments.model, recipe="finetune_seq2seq")
    processor = family.load_processor(arguments, None)
    model: Any = family.load_model(arguments, processor)
    read = build_splits(arguments.data, seed=arguments.experiment.seed, names=splits)
    encoder = family.make_encoder(processor, model.config, arguments)
    prepared = prepare_with_bank(read, encoder, arguments, family, model, processor, training)
    conditions = resolve_conditions(family, arguments, training.device, model.dtype)
    model, _ = make_trainable(model, family, arguments.freeze, arguments.peft, arguments.experiment.seed)
    trainer = build_trainer(arguments, training, family, model, processor, prepared, conditions)
    return Ours(arguments, trainer, prepared, conditions, family, processor)
