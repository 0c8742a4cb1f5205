"""What a recipe asks of a kind of speech model: one frozen record of functions and names a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedModel

from hf_asr.config.arguments import Arguments
from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.collate import Collator, InputPadder, MixedPadder, Seq2SeqCollator
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.positions import WindowChoice
from hf_asr.models.losses import Loss


def _nothing(model: PreTrainedModel) -> tuple[str, ...]:
    return ()


def _no_language(model: PreTrainedModel, processor: Any, arguments: Arguments) -> None:
    """Decoding does not depend on the language."""


@dataclass(frozen=True)
class ModelFamily:
    """Everything that differs between kinds of speech models; the rest of the package asks only this.

    Attributes:
        name: Key in ``FAMILIES`` and value of ``model.family``.
        recipe: The recipe (without ``.py``) that trains it.
        model_types: ``model_type`` values in config.json that belong to it.
        config_names: Names after ``config:`` that build a random model of it.
        load_processor: (arguments, rows of the training split or None) -> extractor and tokenizer, language and task
            set; the rows are only looked at where the vocabulary (or the list of classes) comes from them.
        load_config: (arguments, processor) -> the model's config, without reading weights.
        load_model: (arguments, processor) -> model in training precision, ready to decode.
        build: config -> the architecture with random weights.
        make_encoder: (processor, model config, arguments) -> one corpus row to features and labels.
        make_collator: (processor, model) -> encoded rows to a batch.
        window_padder: (processor, model, window) -> what pads clips for a window that is not
            ``full``; None where the family has no window to save on.
        decode: (model, processor, batch on the model's device, options) -> one text (a class's name, a number) a clip.
        decoding_options: arguments -> what decides decoding beside weights and clip; stored with every result.
        check_decoding: (model, options) raises UserError for options that this family does not know.
        check_saved: (folder, model) raises ValueError when the folder would not decode as the model does.
        notes: (arguments, processor) -> sentences for the start of the log and the model card.
        loss: What is minimised.
        scoring: What hypotheses are: ``words``, ``classes`` or ``numbers``.
        head: Module that gives the logits.
        lora_targets: Modules that adapters go to unless told otherwise.
        lora_excluded: Modules inside which ``lora_targets`` are not meant, such as an audio tower.
        freezable: Group name to globs over parameter names.
        encoder_layers_prefix: Where the encoder's numbered layers are.
        needs_train: Whether ``load_processor`` may have to look at the training split.
        must_train: model -> globs over the names of parameters that may not stay frozen, such as embeddings that were
            made anew for another tokenizer.
        set_language: (model, processor, arguments) writes ``data.language`` into the generation config, in place, to
            decode a set of another language.
        encoder_inputs: Inputs of the encoder's ``forward`` that decide its states, the one that is always there first;
            validation computes them once for loss and text. None where the family has no such encoder.
        usage: Python for the model card that transcribes ``clip.wav`` with ``{model}``; None where transformers' speech
            recognition pipeline does.
    """

    name: str
    recipe: str
    model_types: tuple[str, ...]
    config_names: tuple[str, ...]
    load_processor: Callable[[Arguments, Dataset | Stream | None], Any]
    load_config: Callable[[Arguments, Any], PreTrainedConfig]
    load_model: Callable[[Arguments, Any], PreTrainedModel]
    build: Callable[[Any], PreTrainedModel]
    make_encoder: Callable[[Any, PreTrainedConfig, Arguments], ClipEncoder]
    make_collator: Callable[[Any, PreTrainedModel], Collator]
    decode: Callable[[PreTrainedModel, Any, Mapping[str, Any], Mapping[str, Any]], list[str]]
    decoding_options: Callable[[Arguments], Mapping[str, Any]]
    check_decoding: Callable[[PreTrainedModel, Mapping[str, Any]], None]
    check_saved: Callable[[Path, PreTrainedModel], None]
    notes: Callable[[Arguments, Any], list[str]]
    loss: Loss
    head: str
    lora_targets: tuple[str, ...]
    freezable: Mapping[str, tuple[str, ...]]
    encoder_layers_prefix: str
    scoring: str = "words"
    needs_train: bool = False
    lora_excluded: tuple[str, ...] = ()
    must_train: Callable[[PreTrainedModel], tuple[str, ...]] = _nothing
    set_language: Callable[[PreTrainedModel, Any, Arguments], None] = _no_language
    encoder_inputs: tuple[str, ...] = ()
    usage: str | None = None
    window_padder: Callable[[Any, PreTrainedModel, WindowChoice], InputPadder] | None = None


def collator_for(
    family: ModelFamily,
    processor: Any,
    model: PreTrainedModel,
    window: WindowChoice,
    *,
    mix: float = 0.0,
    seed: int = 0,
    label_multiple: int = 1,
) -> Collator:
    """Make the family's collator for a window.

    Args:
        family: The model's family.
        processor: Its processor.
        model: The model, whose ``forward`` takes the plan where ``window`` is not ``full``.
        window: ``model.window`` for training, ``evaluation.window`` for decoding.
        mix: ``model.window_mix`` for training: share of the batches with the full window.
        seed: ``experiment.seed``, which decides what these batches are.
        label_multiple: What the labels of an encoder-decoder are padded to a multiple of.

    Raises:
        UserError: The family has only its full window.
    """
    check_window(family, window.name, "model.window or evaluation.window")
    collator: Any = family.make_collator(processor, model)
    if label_multiple > 1 and isinstance(collator, Seq2SeqCollator):
        collator = replace(collator, label_multiple=label_multiple)
    if window.name == "full" or family.window_padder is None:
        return cast(Collator, collator)
    part = family.window_padder(processor, model, window)
    padder = MixedPadder(collator.padder, part, mix, seed) if mix else part
    return cast(Collator, replace(collator, padder=padder))


def check_window(family: ModelFamily, window: str, key: str = "model.window") -> None:
    """See that a family can leave silence out.

    Raises:
        UserError: It cannot.
    """
    if window != "full" and family.window_padder is None:
        raise UserError(
            f"{key}: expected full for a {family.name} model, as only a Whisper can leave out the silence of its "
            f"window, found {window}. Remove the key."
        )
