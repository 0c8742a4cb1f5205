"""Whether a training of Whisper may read its frozen encoder's states from a bank, and how they come into one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_asr.config.arguments import Arguments
from hf_asr.data.corpora import Split
from hf_asr.errors import UserError
from hf_asr.features.bank import BankPlace, bank_split, whole_bank
from hf_asr.features.bank_room import BankForecast, BankShape, check_fits
from hf_asr.features.cache import PreparedSplit, cache_folder
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.positions import WindowChoice
from hf_asr.features.prepare import prepare_splits, scoring_encoder
from hf_asr.inference.generate import DTYPES, resolve_conditions
from hf_asr.models.family import ModelFamily, collator_for
from hf_asr.models.whisper_bank import WhisperStates, bank_shape, encoder_hash
from hf_asr.models.whisper_thin import check_options, check_state_options
from hf_asr.training.freezing import frozen_names, names_of_group
from hf_asr.training.unfreezing import unfreezing_plan

logger = logging.getLogger(__name__)

DROPOUTS = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop")
KEYS = {"encoder_layerdrop": "layerdrop"}
MIXED = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_bank(model: PreTrainedModel, family: ModelFamily, arguments: Arguments) -> bool:
    """Tell whether ``features.bank`` asks for a bank that is right here; ``auto`` says in the log why it is not.

    Args:
        model: The model as it was loaded, before anything of it is frozen or adapted.
        family: Its family.
        arguments: The whole configuration.

    Raises:
        UserError: It is ``on`` beside what would make stored states wrong.
    """
    wanted = arguments.features.bank
    problem = "" if wanted == "off" else "; ".join(why_no_bank(model, family, arguments))
    if wanted == "on" and problem:
        raise UserError(f"features.bank=on: expected an encoder that gives the same states every time, found {problem}")
    if problem:
        logger.info("features.bank=auto: no bank, since %s", problem)
    return wanted != "off" and not problem


def why_no_bank(model: PreTrainedModel, family: ModelFamily, arguments: Arguments) -> Iterator[str]:
    """Yield what would make stored states wrong, or leave them unread, and what to do."""
    if family.name != "whisper":
        yield f"a {family.name} model: only a classifier and a Whisper read a bank; set features.bank=off"
        return
    yield from _changing_clips(model, arguments)
    yield from _changing_encoder(model, family, arguments)


def _changing_clips(model: PreTrainedModel, arguments: Arguments) -> Iterator[str]:
    data, config = arguments.data, model.config
    chosen = list(arguments.augment.chosen())
    if chosen:
        yield f"augment.{chosen[0]}, which changes clips in every epoch: set augment.enabled=false"
    if config.apply_spec_augment and (config.mask_time_prob or config.mask_feature_prob):
        yield "SpecAugment in the checkpoint's config.json: set apply_spec_augment to false there"
    if data.streaming:
        yield "data.streaming, which reads clips in no fixed number: set data.streaming=false"
    if data.pack:
        yield "data.pack, which joins clips in another way in every epoch: set data.pack=false"
    if data.drop_suspicious is not None:
        yield "data.drop_suspicious, which decodes training clips from their features: drop them in a run before this"
    if arguments.model.window_mix:
        yield f"model.window_mix={arguments.model.window_mix:g}, which encodes a clip in two windows: set it to 0"


def _changing_encoder(model: PreTrainedModel, family: ModelFamily, arguments: Arguments) -> Iterator[str]:
    values = model.config.to_dict()
    dropouts = [name for name in DROPOUTS if values[name]]
    if dropouts:
        yield f"model.{KEYS.get(dropouts[0], dropouts[0])}, which makes the encoder draw at random: set it to 0"
    if arguments.peft.method != "none":
        inside = _adapted(model, family, arguments)
        if inside:
            yield (
                f"adapters inside the encoder ({inside}, by peft.target_modules): set "
                "peft.target_modules=[encoder_attn.q_proj, encoder_attn.v_proj], the decoder's cross-attention"
            )
        return
    encoder = set(names_of_group(model, family, "encoder"))
    frozen = frozen_names(model, family, arguments.freeze)
    trained = [name for name, value in model.named_parameters() if name in encoder - frozen and value.requires_grad]
    if trained:
        yield f"encoder weights that are trained, such as {trained[0]}: set freeze.groups=[encoder]"
    later = [epoch for epoch, names in unfreezing_plan(model, family, arguments.freeze).items() if encoder & set(names)]
    if later:
        yield f"freeze.unfreeze.{later[0]}, which trains the encoder from there on: take its groups out"


def _adapted(model: PreTrainedModel, family: ModelFamily, arguments: Arguments) -> str:
    """Return the name of the encoder's first module that gets an adapter; empty when none does."""
    targets = tuple(f".{target}" for target in arguments.peft.target_modules or family.lora_targets)
    inside = (name for name, _ in model.named_modules() if name.startswith("model.encoder."))
    return next((name for name in inside if f".{name}".endswith(targets)), "")


def why_not_decoded(model: PreTrainedModel, arguments: Arguments) -> str:
    """Return why validation is not decoded from a bank; empty when it is."""
    evaluation = arguments.evaluation
    if not evaluation.bank:
        return "evaluation.bank is false"
    if evaluation.window != arguments.model.window:
        return f"evaluation.window is {evaluation.window}, model.window {arguments.model.window}"
    options = model.generation_config.to_dict() | dict(evaluation.generation)
    try:
        check_state_options(options)
        if evaluation.window != "full":
            check_options(options)
    except UserError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class SplitBank:
    """How one split comes into its bank.

    Attributes:
        place: Where it is.
        identity: Of the split's rows and their features.
        encode: Runs the encoder.
        settings: What decides the states beside the rows.
        bytes: Forecast of its size.
    """

    place: BankPlace
    identity: str
    encode: WhisperStates
    settings: Mapping[str, Any]
    bytes: int


def prepare_with_bank(
    splits: Mapping[str, Split],
    encoder: ClipEncoder,
    arguments: Arguments,
    family: ModelFamily,
    model: PreTrainedModel,
    processor: Any,
    training: Any,
) -> dict[str, PreparedSplit]:
    """Prepare all splits; train, and validation between epochs, from the bank where ``features.bank`` says so.

    Features of a split whose bank is whole are neither computed nor opened. The test split is always read from them:
    baseline and test are what ``hf-asr evaluate`` scores.

    Args:
        splits: From :func:`hf_asr.data.corpora.build_splits`.
        encoder: The family's encoder of rows.
        arguments: The whole configuration.
        family: The model's family.
        model: The untouched model; moved to the training's device.
        processor: Its processor.
        training: The Trainer's arguments: device, arithmetic, processes.

    Raises:
        UserError: A bank is asked for and would be wrong, does not fit, or cannot be written.
    """
    model.to(training.device)
    if not check_bank(model, family, arguments):
        return prepare_splits(splits, encoder, arguments)
    banks = _banks(splits, encoder, arguments, family, model, processor, training)
    if not _fits(banks, arguments):
        return prepare_splits(splits, encoder, arguments)
    part = (training.process_index, training.world_size)
    found = {name: whole_bank(bank.place, part) for name, bank in banks.items()}
    whole = {name: rows for name, rows in found.items() if rows is not None and _usable(rows, arguments)}
    prepared = prepare_splits({name: split for name, split in splits.items() if name not in whole}, encoder, arguments)
    for name, bank in banks.items():
        prepared[name] = whole.get(name) or bank_split(
            prepared[name],
            bank.encode,
            shape=bank.place.shape,
            settings=bank.settings,
            features=arguments.features,
            batch_size=arguments.evaluation.batch_size,
            part=part,
            identity=bank.identity,
        )
    return {name: prepared[name] for name in splits}


def _banks(
    splits: Mapping[str, Split],
    encoder: ClipEncoder,
    arguments: Arguments,
    family: ModelFamily,
    model: PreTrainedModel,
    processor: Any,
    training: Any,
) -> dict[str, SplitBank]:
    """Return the bank of each split that reads one."""
    window = WindowChoice.of(arguments.model)
    collate: Any = collator_for(family, processor, model, window)
    shape, weights = bank_shape(model, collate.padder), encoder_hash(model)
    decoding = DTYPES[resolve_conditions(family, arguments, training.device, model.dtype).dtype]
    arithmetic = {"train": MIXED[training.mixed_precision]}
    if "validation" in splits:
        why = why_not_decoded(model, arguments)
        logger.info("features.bank: validation is decoded from %s", f"features, since {why}" if why else "the bank")
        arithmetic |= {} if why else {"validation": None if decoding == model.dtype else decoding}
    banks = {}
    for name, autocast in arithmetic.items():
        split = splits[name]
        folder, _ = cache_folder(split, encoder if name == "train" else scoring_encoder(encoder), arguments.features)
        settings = {
            "encoder": weights,
            "arithmetic": f"{training.device.type} {autocast or model.dtype}",
            "window": list(astuple(window)) if window.name == "thinned" else [window.name],
        }
        place = BankPlace.of(split.name, folder.name, shape, settings, arguments.features)
        states = WhisperStates(model, collate, autocast)
        banks[name] = SplitBank(place, folder.name, states, settings, forecast(split, shape))
    return banks


def forecast(split: Split, shape: BankShape) -> int:
    """Return the bytes that a split's bank takes, from the durations that its corpus knows."""
    seconds = sum(seconds for seconds in split.rows["duration"] if seconds is not None)
    return shape.forecast(seconds, len(split.rows))


def forecast_bank(
    splits: Mapping[str, Split],
    encoder: ClipEncoder,
    arguments: Arguments,
    family: ModelFamily,
    model: PreTrainedModel,
    processor: Any,
    training: Any,
) -> BankForecast | None:
    """Return what the bank will take and whether it fits; None without one. Arguments of :func:`prepare_with_bank`."""
    if not check_bank(model, family, arguments):
        return None
    return _forecast(_banks(splits, encoder, arguments, family, model, processor, training), arguments)


def _forecast(banks: Mapping[str, SplitBank], arguments: Arguments) -> BankForecast:
    needed = sum(bank.bytes for bank in banks.values())
    written = sum(bank.place.bytes_written() for bank in banks.values())
    shape = next(iter(banks.values())).place.shape
    return BankForecast.of(list(banks), needed, written, shape, arguments.features)


def _fits(banks: Mapping[str, SplitBank], arguments: Arguments) -> bool:
    """Tell whether all banks fit, before a feature is computed for them.

    Raises:
        UserError: They do not, and features.bank is ``on``.
    """
    found = _forecast(banks, arguments)
    check_fits(found, arguments.features.bank)
    if found.problem:
        logger.info("features.bank=auto: no bank: %s", found.problem)
    return not found.problem


def _usable(bank: PreparedSplit, arguments: Arguments) -> bool:
    """Name what a bank's clips left out; where one is to stop the run, preparing the split says so."""
    for line in bank.drops.lines():
        logger.info("%s: %s", bank.name, line)
    return arguments.data.on_bad_clip != "raise" or not bank.drops.total()
