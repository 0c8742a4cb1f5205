"""What a recipe asks of a kind of speech model: one frozen record of functions and names a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

from hf_asr.config.arguments import Arguments, DataArguments, ModelArguments
from hf_asr.features.collate import Seq2SeqCollator
from hf_asr.features.extract import ClipEncoder


@dataclass(frozen=True)
class ModelFamily:
    """Everything that differs between kinds of speech models; the rest of the package asks only this.

    Attributes:
        name: Key in ``FAMILIES`` and value of ``model.family``.
        recipe: The recipe (without ``.py``) that trains it.
        model_types: ``model_type`` values in config.json that belong to it.
        config_names: Names after ``config:`` that build a random model of it.
        load_processor: (model, data) -> extractor and tokenizer, language and task set.
        load_config: (model, processor) -> the model's config, without reading weights.
        load_model: (model, data, processor, seed) -> model in training precision, generation configured.
        make_encoder: (processor, model config, arguments) -> one corpus row to features and labels.
        make_collator: (processor, model) -> encoded rows to a batch.
        decode: (model, processor, batch on the model's device, generation) -> one text a clip.
        configure_generation: (model, processor, model arguments, data) writes language and task into the
            model's generation config; done by ``load_model`` already.
        check_saved: (folder, model) raises ValueError when the folder would not decode as the model does.
        notes: (processor, model arguments, data) -> sentences for the start of the log and the model card.
        head: Module that gives the logits.
        lora_targets: Modules that adapters go to unless told otherwise.
        freezable: Group name to globs over parameter names.
        encoder_layers_prefix: Where the encoder's numbered layers are.
    """

    name: str
    recipe: str
    model_types: tuple[str, ...]
    config_names: tuple[str, ...]
    load_processor: Callable[[ModelArguments, DataArguments], ProcessorMixin]
    load_config: Callable[[ModelArguments, ProcessorMixin], PreTrainedConfig]
    load_model: Callable[[ModelArguments, DataArguments, ProcessorMixin, int], PreTrainedModel]
    make_encoder: Callable[[ProcessorMixin, PreTrainedConfig, Arguments], ClipEncoder]
    make_collator: Callable[[ProcessorMixin, PreTrainedModel], Seq2SeqCollator]
    decode: Callable[[PreTrainedModel, ProcessorMixin, Mapping[str, Any], Mapping[str, Any]], list[str]]
    configure_generation: Callable[[PreTrainedModel, ProcessorMixin, ModelArguments, DataArguments], None]
    check_saved: Callable[[Path, PreTrainedModel], None]
    notes: Callable[[ProcessorMixin, ModelArguments, DataArguments], list[str]]
    head: str
    lora_targets: tuple[str, ...]
    freezable: Mapping[str, tuple[str, ...]]
    encoder_layers_prefix: str
