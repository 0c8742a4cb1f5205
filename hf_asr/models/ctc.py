"""CTC models: wav2vec 2.0, HuBERT, WavLM, XLS-R and MMS, Wav2Vec2-BERT, Parakeet-CTC, or one from random weights.

Attention masks are used as the checkpoint's extractor says: models with GroupNorm in their feature encoder
(wav2vec2-base, hubert-base) were pretrained without one, on batches padded with silence, so that what they write
depends a little on the clip's neighbours. Their texts are read off the padding as well, as transformers does.

A Parakeet keeps the BatchNorm statistics of its checkpoint, see :mod:`hf_asr.models.parakeet`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, ProcessorMixin, Wav2Vec2CTCTokenizer
from transformers.utils import cached_file

from hf_asr.config.arguments import Arguments, ModelArguments
from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.collate import LabelCollator, LongestPadder
from hf_asr.features.extract import ClipEncoder
from hf_asr.models import ctc_decoding
from hf_asr.models.checkpoints import (
    CONFIG_PREFIX,
    config_values,
    finish_random,
    is_config_name,
    load_weights,
    own_random_state,
    random_weights,
    reporting,
    revision_of,
)
from hf_asr.models.ctc_configs import KINDS, SHAPES
from hf_asr.models.ctc_loss import CTC
from hf_asr.models.ctc_processor import (
    CtcLabels,
    HeadPlan,
    StateCount,
    configure,
    identity_of,
    kind_of_model,
    load_config,
    load_processor,
    make_front_end,
    plan_head,
    read_config,
    vocabulary_of,
)
from hf_asr.models.ctc_vocabulary import characters_of
from hf_asr.models.family import ModelFamily
from hf_asr.models.parakeet import fix_batch_norm

logger = logging.getLogger(__name__)

# New where a head, language adapters or masking are new; all else a checkpoint must have.
NEW_WEIGHTS = ("lm_head.", "ctc_head.", "masked_spec_embed", "adapter_layer.")
# Layers that are replaced, read or drawn anew after loading: they must keep their numbers.
# The feature projection's output is set to 0 in place behind a clip's end, which bitsandbytes' layers forbid.
UNQUANTISED = ("lm_head", "ctc_head", r".*\.adapter_layer", r".*\.feature_projection")
ADAPTER_FILE = "adapter.{}.safetensors"


def load_model(arguments: Arguments, processor: ProcessorMixin) -> PreTrainedModel:
    """Load a checkpoint, or build ``config:NAME``; its head fits the vocabulary.

    A head that is extended keeps the rows of its tokens; new rows begin at the mean of the old ones. A new head's rows
    are drawn as the architecture draws them. Both are a function of ``experiment.seed``.

    Raises:
        UserError: There is no such checkpoint, it is damaged, or it lacks a language's adapter.
    """
    model, plan = arguments.model, plan_head(arguments, processor)
    config = load_config(arguments, processor)
    seed = arguments.experiment.seed
    if is_config_name(model):
        name = model.name_or_path.removeprefix(CONFIG_PREFIX)
        model = replace(model, attn_implementation=attention_of(model))
        with own_random_state(seed, name):
            architecture = KINDS[config.model_type].model
            built = random_weights(architecture, config, model.attn_implementation)
        loaded: Any = finish_random(built, model, UNQUANTISED)
    else:
        loaded = _load_checkpoint(arguments, processor, plan)
    loaded.config.pad_token_id = config.pad_token_id
    fix_batch_norm(loaded)
    return loaded


def attention_of(model: ModelArguments) -> str:
    """Return how attention is computed: as asked for, but the default SDPA only where there is one (not in WavLM)."""
    has_sdpa = kind_of_model(model).model._supports_sdpa
    return "eager" if model.attn_implementation == "sdpa" and not has_sdpa else model.attn_implementation


def make_encoder(processor: ProcessorMixin, model_config: PreTrainedConfig, arguments: Arguments) -> ClipEncoder:
    """Make the encoder of rows: the extractor's features without padding, and the transcript's characters."""
    data = arguments.data
    return ClipEncoder(
        front_end=make_front_end(processor.feature_extractor),
        labeller=CtcLabels(processor.tokenizer, StateCount(model_config), data.text_pipeline),
        identity=identity_of(processor),
        level=data.level,
        trim_silence=data.trim_silence,
        min_seconds=data.min_seconds,
        max_seconds=data.max_seconds,
        store_dtype=arguments.features.store_dtype,
    )


def make_collator(processor: ProcessorMixin, model: PreTrainedModel) -> LabelCollator:
    """Make the collator that pads to the batch's longest clip, with a mask where the checkpoint takes one."""
    extractor, config = processor.feature_extractor, model.config
    front_end, waveform = make_front_end(extractor), KINDS[config.model_type].waveform
    padder = LongestPadder(
        feature_size=front_end.feature_size,
        name="input_values" if waveform else "input_features",
        min_frames=shortest_input(config),
        with_mask=not waveform or bool(extractor.return_attention_mask),
        waveform=waveform,
    )
    return LabelCollator(padder)


def shortest_input(config: PreTrainedConfig) -> int:
    """Return the frames that a batch must have: for one state, and for one mask where states are masked."""
    values = config.to_dict()
    masks = values.get("mask_time_prob", 0) > 0
    wanted, states = (values["mask_time_length"] if masks else 1), StateCount(config)
    step = 80 if KINDS[config.model_type].waveform else 1
    frames = step
    while states(frames) < wanted:
        frames += step
    return frames


def check_saved(folder: Path, model: PreTrainedModel) -> None:
    """See that a saved model reads its text off as the one in memory: the blank and the head's size.

    Raises:
        ValueError: One was lost on the way.
    """
    saved = config_values(ModelArguments(str(folder)))
    for name in ("pad_token_id", "vocab_size"):
        if saved.get(name) != model.config.to_dict()[name]:
            raise ValueError(
                f"config.json in {folder} has {name} {saved.get(name)}, was {model.config.to_dict()[name]}"
            )


def notes(arguments: Arguments, processor: ProcessorMixin) -> list[str]:
    """Return what a reader of the card should know: what the model can write."""
    tokenizer = processor.tokenizer
    if not isinstance(tokenizer, Wav2Vec2CTCTokenizer):
        return [f"CTC over {len(vocabulary_of(tokenizer)):,} pieces of words."]
    written = characters_of([token for token in tokenizer.encoder if len(token) == 1], "none")
    shown = "".join(written[:80]) + ("..." if len(written) > 80 else "")
    return [f"CTC over {len(written)} characters: {shown} ."]


def _load_checkpoint(arguments: Arguments, processor: ProcessorMixin, plan: HeadPlan) -> Any:
    """Load weights with the checkpoint's own head, then its language's adapter, then make the head that is wanted."""
    model = arguments.model
    config = read_config(model)
    configure(config, arguments)
    architecture, fitting = kind_of_model(model).model, replace(model, attn_implementation=attention_of(model))
    loaded = load_weights(architecture, fitting, config, new=_new_weights(arguments, plan), unquantised=UNQUANTISED)
    if model.adapter_language is not None:
        _set_adapter(loaded, arguments, processor, plan)
    if not plan.kept:
        with own_random_state(arguments.experiment.seed, "head"):
            replace_head(loaded, plan)
    return loaded


def _new_weights(arguments: Arguments, plan: HeadPlan) -> tuple[str, ...]:
    new = [] if plan.kept else ["lm_head.", "ctc_head."]
    new += ["masked_spec_embed"] if arguments.ctc.mask_time or arguments.ctc.mask_feature else []
    return (*new, *(["adapter_layer."] if arguments.model.adapter_language and not plan.kept else []))


def _set_adapter(loaded: Any, arguments: Arguments, processor: ProcessorMixin, plan: HeadPlan) -> None:
    """Load the language's adapter from beside the weights, or begin a new one with a new head.

    Raises:
        UserError: The vocabulary is the checkpoint's, and the language's adapter is not there.
    """
    model, language = arguments.model, arguments.model.adapter_language
    name = ADAPTER_FILE.format(language)
    with reporting("model.adapter_language", model.name_or_path, f"an {name} that fits"):
        options: dict[str, Any] = {"_raise_exceptions_for_missing_entries": False}
        found = cached_file(
            model.name_or_path,
            name,
            revision=revision_of(model),
            _raise_exceptions_for_connection_errors=False,
            **options,
        )
        if found is not None:
            loaded.load_adapter(language, use_safetensors=True, revision=revision_of(model))
            return
    if not plan.kept:
        with own_random_state(arguments.experiment.seed, f"adapter {language}"):
            reset_adapters(loaded)
        logger.info("model.adapter_language: new adapters for %s, from random weights", language)
    elif _saved_language(model) != language:
        raise UserError(
            f"model.adapter_language: expected {name} beside the weights of {model.name_or_path}, found none. Copy or "
            "fetch it, or set ctc.vocabulary=train for a new adapter and head."
        )


@torch.no_grad()
def reset_adapters(model: Any) -> None:
    """Draw the language adapters anew, in place.

    transformers' own ``init_adapter_layers`` leaves weights alone that were loaded (seen with 5.23).
    """
    for name, module in model.named_modules():
        if ".adapter_layer." in name and isinstance(module, nn.Linear):
            module.weight.normal_(0.0, model.config.initializer_range)
            module.bias.zero_()
        elif ".adapter_layer." in name and isinstance(module, nn.LayerNorm):
            module.reset_parameters()


def _saved_language(model: ModelArguments) -> str | None:
    """Return the language whose adapter is within the weights: the one that the tokenizer was saved with."""
    with reporting("model.name_or_path", model.name_or_path, "a CTC vocabulary"):
        tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, revision=revision_of(model))
    return tokenizer.init_kwargs.get("target_lang")


@torch.no_grad()
def replace_head(model: Any, plan: HeadPlan) -> None:
    """Give a model a head of ``plan.size`` rows, those of ``plan.rows`` taken from its own, in place.

    Rows that are new stand at the mean of the old ones (a token as likely as any other, which needs no unlearning), a
    little apart; in a head that is all new they are drawn as the architecture draws them.
    """
    name = KINDS[model.config.model_type].head
    old = model.get_submodule(name)
    new = _head_like(old, plan.size)
    spread = model.config.initializer_range
    new.weight.normal_(0.0, spread)
    new.bias.zero_()
    if plan.rows:
        new.weight += old.weight.mean(0)
        new.bias += old.bias.mean()
        ids = torch.tensor(list(plan.rows), device=old.weight.device)
        own = torch.tensor(list(plan.rows.values()), device=old.weight.device)
        new.weight[ids], new.bias[ids] = old.weight[own], old.bias[own]
    setattr(model, name, new)
    model.config.vocab_size = plan.size


def _head_like(old: Any, size: int) -> Any:
    """Return a layer like ``old`` with ``size`` rows; Parakeet's head is a convolution of width 1."""
    place: dict[str, Any] = {"device": old.weight.device, "dtype": old.weight.dtype}
    if isinstance(old, nn.Conv1d):
        return type(old)(old.in_channels, size, kernel_size=1, **place)
    return nn.Linear(old.in_features, size, **place)


def build(config: PreTrainedConfig) -> PreTrainedModel:
    """Return the architecture with random weights."""
    model: PreTrainedModel = KINDS[config.model_type].model(config)
    return model


def _load_processor(arguments: Arguments, train: Dataset | Stream | None) -> ProcessorMixin:
    return load_processor(arguments, train)


FAMILY = ModelFamily(
    name="ctc",
    recipe="finetune_ctc",
    model_types=tuple(KINDS),
    config_names=tuple(SHAPES),
    load_processor=_load_processor,
    load_config=load_config,
    load_model=load_model,
    build=build,
    make_encoder=make_encoder,
    make_collator=make_collator,
    decode=ctc_decoding.decode,
    decoding_options=ctc_decoding.decoding_options,
    check_decoding=ctc_decoding.check_decoding,
    check_saved=check_saved,
    notes=notes,
    loss=CTC,
    head="lm_head",
    # Wav2Vec2, HuBERT and WavLM name their projections as Whisper does, Wav2Vec2-BERT otherwise.
    lora_targets=("q_proj", "v_proj", "linear_q", "linear_v"),
    freezable={
        # Everything but the head (and an MMS model's language adapters).
        "encoder": ("wav2vec2.*", "hubert.*", "wavlm.*", "wav2vec2_bert.*", "encoder.*"),
        # From samples to vectors; Wav2Vec2-BERT's features come ready made, Parakeet's are subsampled.
        "feature_encoder": ("*.feature_extractor.*", "encoder.subsampling.*"),
        "feature_projection": ("*.feature_projection.*",),
        "encoder_layers": ("*.encoder.layers.*", "encoder.layers.*"),
        "language_adapters": ("*.adapter_layer.*",),
        # The encoder without its language adapters (MMS).
        "base": (
            "*.feature_extractor.*",
            "*.feature_projection.*",
            "*.encoder.pos_conv_embed.*",
            "*.encoder.layer_norm.*",
            "*.layers.*.attention.*",
            "*.layers.*.layer_norm.*",
            "*.layers.*.feed_forward.*",
            "*.layers.*.final_layer_norm.*",
        ),
        "head": ("lm_head.*", "ctc_head.*"),
        "layer_norms": ("*layer_norm*", "*.norm_*"),
    },
    encoder_layers_prefix=(
        "wav2vec2.encoder.layers|hubert.encoder.layers|wavlm.encoder.layers|wav2vec2_bert.encoder.layers|encoder.layers"
    ),
    needs_train=True,
)
