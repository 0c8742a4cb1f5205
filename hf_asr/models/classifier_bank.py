"""Whether a classifier may read its encoder's states from a bank, and how they come into one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_asr.config.arguments import Arguments
from hf_asr.data.corpora import Split
from hf_asr.errors import UserError
from hf_asr.features.bank import BankPlace, bank_split, bytes_of_banks, identity_of
from hf_asr.features.bank_room import BankForecast, BankShape, check_room, why_no_room
from hf_asr.features.cache import PreparedSplit
from hf_asr.models.classifier_encoders import num_states, pads_cleanly, states_per_second
from hf_asr.models.classifier_model import SpeechClassifier
from hf_asr.models.family import ModelFamily
from hf_asr.models.weights_hash import weights_hash

logger = logging.getLogger(__name__)

DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "layerdrop")
# What a config holds that decides no state.
NO_CONTENT = ("_name_or_path", "transformers_version", "architectures", "dtype")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def why_no_bank(arguments: Arguments) -> str:
    """Return what would make stored states wrong, and what to do; empty when nothing does.

    Args:
        arguments: The whole configuration.
    """
    return "; ".join(_reasons(arguments))


def _reasons(arguments: Arguments) -> Iterator[str]:
    chosen = list(arguments.augment.chosen())
    if chosen:
        yield f"augment.{chosen[0]} changes clips in every epoch: set augment.enabled=false"
    if arguments.peft.method != "none":
        yield f"peft.method={arguments.peft.method} trains adapters inside the encoder: set peft.method=none"
    dropouts = [name for name in DROPOUTS if vars(arguments.model)[name]]
    if dropouts:
        yield f"model.{dropouts[0]} makes the encoder draw at random: set it to 0"
    if arguments.freeze.unfreeze:
        yield "freeze.unfreeze trains what was frozen: remove it"
    if arguments.freeze.last_n_encoder_layers:
        yield "freeze.last_n_encoder_layers trains layers of the encoder: remove it"
    elif not freezes_encoder(arguments):
        yield f"freeze.groups={arguments.freeze.groups} leaves encoder weights to train: set freeze.groups=[encoder]"
    if arguments.data.streaming:
        yield "data.streaming reads clips once, in no fixed number: set data.streaming=false"


def freezes_encoder(arguments: Arguments) -> bool:
    """Tell whether no weight of the encoder, and no adapter in it, is ever trained."""
    freeze = arguments.freeze
    whole = bool({"encoder", "encoder.*"} & set(freeze.groups)) or freeze.last_n_encoder_layers == 0
    return whole and not freeze.unfreeze and arguments.peft.method == "none"


def uses_bank(arguments: Arguments) -> bool:
    """Tell whether ``features.bank`` asks for a bank that is right here; ``auto`` says in the log why it is not.

    Raises:
        UserError: It is ``on`` beside what would make stored states wrong.
    """
    wanted = arguments.features.bank
    problem = "" if wanted == "off" else why_no_bank(arguments)
    if wanted == "on" and problem:
        raise UserError(f"features.bank=on: expected an encoder that gives the same states every time, found {problem}")
    if problem:
        logger.info("features.bank=auto: no bank, since %s", problem)
    return wanted != "off" and not problem


def shape_of(model: SpeechClassifier) -> BankShape:
    """Return what a bank of this model holds."""
    layers, width = num_states(model.config.encoder)
    layers = layers if model.config.layers == "weighted" else 1
    return BankShape(layers, width, states_per_second(model.config.encoder))


def forecast_bank(splits: Mapping[str, Split], model: Any, arguments: Arguments) -> BankForecast | None:
    """Return what the bank of all splits will take, by the durations that the corpus knows; None without one.

    Args:
        splits: From :func:`hf_asr.data.corpora.build_splits`.
        model: The classifier.
        arguments: The whole configuration.
    """
    if not uses_bank(arguments):
        return None
    shape, features = shape_of(model), arguments.features
    needed = sum(shape.forecast(split.seconds or 0.0, len(split.rows)) for split in splits.values())
    written = sum(bytes_of_banks(split.name, features) for split in splits.values())
    return BankForecast.of(list(splits), needed, min(needed, written), shape, features)


def bank_splits(
    prepared: Mapping[str, PreparedSplit],
    model: Any,
    family: ModelFamily,
    processor: Any,
    arguments: Arguments,
    training: Any,
) -> dict[str, PreparedSplit]:
    """Return all splits with the encoder's states in place of features, where ``features.bank`` says so.

    Args:
        prepared: All splits of a run.
        model: The classifier; moved to the training's device.
        family: Its family.
        processor: Its processor.
        arguments: The whole configuration.
        training: The Trainer's arguments: device, arithmetic.

    Raises:
        UserError: A bank is asked for and would be wrong, does not fit, or cannot be written.
    """
    if not uses_bank(arguments):
        return dict(prepared)
    shape, splits, features = shape_of(model), list(prepared.values()), arguments.features
    model.to(training.device)
    encode = StatesOf(model, family.make_collator(processor, model), training.mixed_precision)
    settings = {"encoder": content_of(model.encoder), "arithmetic": f"{training.device.type} {encode.precision}"}
    places = [BankPlace.of(split.name, identity_of(split), shape, settings, features) for split in splits]
    written = sum(place.bytes_written() for place in places)
    if features.bank == "on":
        check_room(splits, shape, features, written)
    elif problem := why_no_room(splits, shape, features, written):
        logger.info("features.bank=auto: no bank: %s", problem)
        return dict(prepared)
    shared: dict[str, Any] = {
        "shape": shape,
        "settings": settings,
        "features": features,
        "batch_size": arguments.evaluation.batch_size if pads_cleanly(model.config.encoder) else 1,
        "part": (training.process_index, training.world_size),
    }
    return {name: bank_split(split, encode, **shared) for name, split in prepared.items()}


@dataclass(frozen=True)
class StatesOf:
    """Runs the encoder over encoded rows.

    Attributes:
        model: The classifier.
        collate: Its family's collator.
        precision: ``no``, ``bf16`` or ``fp16``: the arithmetic of training.
    """

    model: SpeechClassifier
    collate: Any
    precision: str

    @torch.no_grad()
    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """Return each row's states (K, S, D), float16, without padding."""
        model, device = self.model, self.model.device
        batch = self.collate(rows)
        names = ("input_features", "input_values", "attention_mask")
        inputs = {name: batch[name].to(device) for name in names if name in batch}
        was_training = model.training
        model.eval()
        dtype = DTYPES.get(self.precision)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            states, mask = model.encode(**inputs)
        model.train(was_training)
        lengths = mask.sum(1).tolist()
        halves = states.half().cpu().numpy()
        return [clip[:, :length] for clip, length in zip(halves, lengths, strict=True)]


def content_of(encoder: PreTrainedModel) -> str:
    """Return a hash of an encoder's weights and settings: of what it is, whatever it is called."""
    settings = {name: value for name, value in encoder.config.to_dict().items() if name not in NO_CONTENT}
    return weights_hash(encoder, settings)
