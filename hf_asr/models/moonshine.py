"""Moonshine: raw waveform in, text out, without a window; an encoder-decoder for short clips.

The encoder normalises its first convolution over all samples of a row, the padding of a batch included
(``GroupNorm`` with one group), before any attention mask, and its mask lets in two states that lie in the padding: what
is written for a clip can change with the length of the longest clip beside it. Published results are of clips decoded
alone (``evaluation.batch_size=1``); in training, batches of clips of one length keep the effect small.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from transformers import (
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

from hf_asr.config.arguments import Arguments, DataArguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.features.collate import LongestPadder, Seq2SeqCollator
from hf_asr.features.extract import ClipEncoder, OneClip, TokenLabels
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
from hf_asr.models.family import ModelFamily
from hf_asr.models.generating import check_generation, check_kept, generating, generation_options
from hf_asr.models.greedy import leaving
from hf_asr.models.losses import TOKENS

KEPT_IN_CHECKPOINTS = ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "max_length")
# Tokens that a second of speech may take: Moonshine repeats itself where it is not stopped. 6.5 is of the English
# checkpoints' card, twice that of those for other languages, whose words fall into more pieces.
TOKENS_PER_SECOND = 6.5
TOKENS_PER_SECOND_ELSEWHERE = 13.0
# Name among the options of decoding; all others are those of ``generate``.
LIMIT = "tokens_per_second"
# Samples that give the encoder one state: kernels 127, 7, 3 with strides 64, 3, 2.
SHORTEST = 127 + 64 * (7 + 3 * 2 - 1)


class Shape(NamedTuple):
    """Sizes of one checkpoint; the feed-forward layers are four times as wide as ``width``."""

    width: int
    layers: int
    rotary: float


SHAPES: Mapping[str, Shape] = {
    "moonshine-tiny": Shape(288, 6, 0.9),
    "moonshine-base": Shape(416, 8, 0.62),
}


def load_processor(model: ModelArguments) -> ProcessorMixin:
    """Load or build the extractor, which leaves the waveform as it is, and the tokenizer.

    Raises:
        UserError: Files are missing or of another kind.
    """
    return Wav2Vec2Processor(_load_extractor(model), _load_tokenizer(model))


def load_config(model: ModelArguments, processor: ProcessorMixin) -> MoonshineConfig:
    """Return the model's config without its weights; Moonshine knows of the dropouts only ``attention_dropout``.

    Raises:
        UserError: There is none, a dropout that it has not is asked for, or the tokenizer does not fit it.
    """
    tokenizer = processor.tokenizer
    config = _architecture(model, tokenizer) if is_config_name(model) else _read_config(model)
    given = {"dropout": model.dropout, "activation_dropout": model.activation_dropout, "layerdrop": model.layerdrop}
    unknown = [f"model.{name}" for name, value in given.items() if value]
    if unknown:
        raise UserError(
            f"{', '.join(unknown)}: expected 0, since Moonshine has no such layers, found more. Leave it out; "
            "model.attention_dropout is there."
        )
    config.attention_dropout = model.attention_dropout
    highest = max(tokenizer.get_vocab().values())
    if highest >= config.vocab_size:
        raise UserError(
            f"model.tokenizer_name_or_path: expected ids below the model's {config.vocab_size} entries, found a "
            f"tokenizer that goes up to {highest}. Give the tokenizer of this checkpoint."
        )
    return config


def load_model(arguments: Arguments, processor: ProcessorMixin) -> PreTrainedModel:
    """Load a checkpoint, or build ``config:NAME``.

    Raises:
        UserError: There is no such checkpoint, or it is damaged.
    """
    model, tokenizer = arguments.model, processor.tokenizer
    config = load_config(model, processor)
    if is_config_name(model):
        with own_random_state(arguments.experiment.seed, model.name_or_path.removeprefix(CONFIG_PREFIX)):
            built = random_weights(MoonshineForConditionalGeneration, config, model.attn_implementation)
        loaded: Any = finish_random(built, model)
    else:
        loaded = load_weights(MoonshineForConditionalGeneration, model, config)
    configure_generation(loaded, tokenizer)
    return cast(PreTrainedModel, loaded)


def configure_generation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write start, end, padding and the longest output into a model's generation config; in place."""
    generation = model.generation_config
    # With this mark the file is made of config.json again when it is read.
    generation._from_model_config = None
    chosen = {
        "decoder_start_token_id": model.config.decoder_start_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": _pad_token(model.config, tokenizer),
        "max_length": model.config.max_position_embeddings,
    }
    for name, value in chosen.items():
        setattr(generation, name, value)


def make_encoder(processor: ProcessorMixin, model_config: PreTrainedConfig, arguments: Arguments) -> ClipEncoder:
    """Make the encoder of rows: the waveform (T, 1), and labels without the start token."""
    extractor, tokenizer, data = processor.feature_extractor, processor.tokenizer, arguments.data
    labeller = TokenLabels(
        tokenizer=tokenizer,
        prefix=(),
        end_token=tokenizer.eos_token_id,
        max_tokens=model_config.max_position_embeddings,
        text_pipeline=data.text_pipeline,
    )
    return ClipEncoder(
        front_end=OneClip(extractor, "input_values", feature_size=1, frames_per_second=float(SAMPLE_RATE)),
        labeller=labeller,
        identity=content_of(processor),
        level=data.level,
        trim_silence=data.trim_silence,
        min_seconds=data.min_seconds,
        max_seconds=data.max_seconds,
        store_dtype=arguments.features.store_dtype,
    )


def make_collator(processor: ProcessorMixin, model: PreTrainedModel) -> Seq2SeqCollator:
    """Make the collator that pads waveforms with silence and masks it."""
    return Seq2SeqCollator(
        padder=LongestPadder(feature_size=1, name="input_values", min_frames=SHORTEST, waveform=True),
        start_token=model.config.decoder_start_token_id,
        pad_token=_pad_token(model.config, processor.tokenizer),
        most_labels=model.config.max_position_embeddings,
    )


def decoding_options(arguments: Arguments) -> dict[str, Any]:
    """Return ``evaluation.generation``, with a limit by the clip's length where it sets none."""
    options = generation_options(arguments)
    if {"max_new_tokens", "max_length"} & set(options):
        return options
    return {LIMIT: tokens_per_second(arguments.data), **options}


def tokens_per_second(data: DataArguments) -> float:
    """Return how many tokens a second of speech may take."""
    english = data.language is None or data.language.split("-")[0].lower() == "en"
    return TOKENS_PER_SECOND if english else TOKENS_PER_SECOND_ELSEWHERE


def check_decoding(model: PreTrainedModel, options: Mapping[str, Any]) -> None:
    """See that ``generate`` knows every option but our own.

    Raises:
        UserError: Some are unknown.
    """
    check_generation(model, {name: value for name, value in options.items() if name != LIMIT})


def decode(
    model: PreTrainedModel, processor: ProcessorMixin, batch: Mapping[str, Any], options: Mapping[str, Any]
) -> list[str]:
    """Write one text a clip with the model's own ``generate``, each cut at its own limit.

    Args:
        model: The model, or one with adapters.
        processor: Its processor.
        batch: ``input_values`` (B, T) and ``attention_mask`` (B, T), on the model's device.
        options: Options of ``generate``, and ``tokens_per_second``.

    Raises:
        UserError: ``generate`` refuses an option's value.
    """
    writer: Any = model
    given = {"use_cache": True, **options}  # training with checkpointing leaves config.use_cache off
    rate = given.pop(LIMIT, None)
    limits = [model.config.max_position_embeddings] * len(batch["attention_mask"])
    if rate is not None:
        limits = clip_limits(batch["attention_mask"], rate, longest=model.config.max_position_embeddings - 1)
        given["max_new_tokens"] = max(limits)
    with generating(given):
        inputs = {name: batch[name] for name in ("input_values", "attention_mask")}
        tokens = writer.generate(**inputs, **given, **leaving(writer, given)).tolist()
    kept = [row[: 1 + limit] for row, limit in zip(tokens, limits, strict=True)]  # the start token comes first
    return [text.strip() for text in processor.batch_decode(kept, skip_special_tokens=True)]


def clip_limits(mask: torch.Tensor, rate: float, longest: int) -> list[int]:
    """Return how many tokens each clip may take: at least 1.

    Args:
        mask: (B, T), 1 where there is a sample.
        rate: Tokens a second.
        longest: What the decoder has positions for.
    """
    return [min(longest, max(1, int(rate * samples / SAMPLE_RATE))) for samples in mask.sum(dim=-1).tolist()]


def content_of(processor: ProcessorMixin) -> dict[str, str]:
    """Return hashes that tell this extractor and tokenizer from others, the same after saving and loading."""
    tokenizer = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    # Padding and truncation are left behind by whoever called the tokenizer last.
    rules = {name: tokenizer[name] for name in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
    return {
        "extractor": hashlib.sha256(processor.feature_extractor.to_json_string().encode()).hexdigest(),
        "tokenizer": hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest(),
    }


def _notes(arguments: Arguments, processor: ProcessorMixin) -> list[str]:
    size = arguments.evaluation.batch_size
    if size == 1:
        return []
    return [
        f"Moonshine normalises over a batch's padding, so the text of a clip can depend on the {size - 1} clips "
        "decoded beside it; evaluation.batch_size=1 decodes each alone."
    ]


def _pad_token(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> int:
    """Return what fills the decoder's inputs; published checkpoints name the end token, or nothing."""
    return int(tokenizer.eos_token_id if config.pad_token_id is None else config.pad_token_id)


def _architecture(model: ModelArguments, tokenizer: PreTrainedTokenizerFast) -> MoonshineConfig:
    return architecture(model.name_or_path.removeprefix(CONFIG_PREFIX), tokenizer)


def architecture(name: str, tokenizer: PreTrainedTokenizerFast) -> MoonshineConfig:
    """Return the config of a name after ``config:``, its special ids looked up in ``tokenizer``."""
    shape = SHAPES[name]
    rotary: dict[str, Any] = {"partial_rotary_factor": shape.rotary}  # config.json has it, the class no field of it
    return MoonshineConfig(
        vocab_size=max(32_768, 1 + max(tokenizer.get_vocab().values())),
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        encoder_num_hidden_layers=shape.layers,
        decoder_num_hidden_layers=shape.layers,
        max_position_embeddings=194,
        pad_head_dim_to_multiple_of=8,
        decoder_start_token_id=tokenizer.bos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **rotary,
    )


def _read_config(model: ModelArguments) -> MoonshineConfig:
    values = config_values(model)
    with reporting("model.name_or_path", model.name_or_path, "a Moonshine config.json"):
        return MoonshineConfig.from_dict(values)


def _load_tokenizer(model: ModelArguments) -> PreTrainedTokenizerFast:
    if is_config_name(model) and model.tokenizer_name_or_path is None:
        raise UserError(
            f"model.tokenizer_name_or_path: expected a tokenizer (a folder or a Hub id with a tokenizer.json), since "
            f"{model.name_or_path} has none of its own, found nothing. Give one, such as UsefulSensors/moonshine-tiny."
        )
    key = "model.name_or_path" if model.tokenizer_name_or_path is None else "model.tokenizer_name_or_path"
    name = model.tokenizer_name_or_path or model.name_or_path
    revision = revision_of(model) if model.tokenizer_name_or_path is None else "main"
    with reporting(key, name, "a tokenizer.json with a begin and an end token"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(name, revision=revision)
        if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
            raise ValueError("a tokenizer without bos_token or eos_token")
    return tokenizer


def _load_extractor(model: ModelArguments) -> Wav2Vec2FeatureExtractor:
    if is_config_name(model):
        return Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    with reporting("model.name_or_path", model.name_or_path, "a feature extractor (preprocessor_config.json)"):
        return Wav2Vec2FeatureExtractor.from_pretrained(model.name_or_path, revision=revision_of(model))


FAMILY = ModelFamily(
    name="moonshine",
    recipe="finetune_seq2seq",
    model_types=("moonshine",),
    config_names=tuple(SHAPES),
    load_processor=lambda arguments, train: load_processor(arguments.model),
    load_config=lambda arguments, processor: load_config(arguments.model, processor),
    load_model=load_model,
    build=MoonshineForConditionalGeneration,
    make_encoder=make_encoder,
    make_collator=make_collator,
    decode=decode,
    decoding_options=decoding_options,
    check_decoding=check_decoding,
    check_saved=lambda folder, model: check_kept(folder, model, KEPT_IN_CHECKPOINTS),
    notes=_notes,
    loss=TOKENS,
    head="proj_out",
    lora_targets=("q_proj", "v_proj"),
    freezable={
        "encoder": ("model.encoder.*",),
        "feature_encoder": ("model.encoder.conv?.*", "model.encoder.groupnorm.*"),
        "encoder_layers": ("model.encoder.layers.*",),
        "encoder_self_attention": ("model.encoder.layers.*.self_attn.*",),
        "encoder_feed_forward": ("model.encoder.layers.*.mlp.*",),
        "decoder": ("model.decoder.*",),
        "decoder_layers": ("model.decoder.layers.*",),
        "decoder_self_attention": ("model.decoder.layers.*.self_attn.*",),
        "cross_attention": ("model.decoder.layers.*.encoder_attn.*",),
        "decoder_feed_forward": ("model.decoder.layers.*.mlp.*",),
        "embeddings": ("model.decoder.embed_tokens.*",),
        # proj_out is tied to the token embedding: one parameter, named after the embedding.
        "head": ("model.decoder.embed_tokens.*",),
        "layer_norms": ("*layer_norm.*", "*layernorm.*", "model.decoder.norm.*"),
    },
    encoder_layers_prefix="model.encoder.layers",
    encoder_inputs=("input_values", "attention_mask"),
)
