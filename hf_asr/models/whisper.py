"""Whisper: tiny to large-v3, turbo and Distil-Whisper, multilingual and English-only, in its 30-second window.

Language and task are written once, into the tokenizer's prefix and the generation config; ``forced_decoder_ids``, the
older way, is cleared. Frames and states are read from the extractor and the config, special ids from the vocabulary:
``convert_tokens_to_ids`` answers the end token for a token that is not there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from hf_asr.config.arguments import Arguments, DataArguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.features.collate import PlannedPadder, Seq2SeqCollator, WindowPadder
from hf_asr.features.extract import ClipEncoder, LogMel, TokenLabels
from hf_asr.features.packing import Joiner, JointFrames, PlainLabels, TimestampLabels
from hf_asr.features.positions import CLIP_BUCKET, FRAMES_PER_POSITION, Window, WindowChoice
from hf_asr.models.checkpoints import CONFIG_PREFIX, finish_random, is_config_name, load_weights
from hf_asr.models.family import ModelFamily
from hf_asr.models.generating import check_generation, check_kept, generating, generation_options
from hf_asr.models.greedy import leaving
from hf_asr.models.losses import TOKENS
from hf_asr.models.whisper_configs import (
    END,
    NO_TIMESTAMPS,
    SHAPES,
    START,
    needed_generation_values,
    published_generation_config,
    random_model,
)
from hf_asr.models.whisper_processor import (
    check_extractor,
    content_of,
    is_multilingual,
    is_multilingual_checkpoint,
    label_prefix,
    load_config,
    load_processor,
    plan_of,
    timestamp_ids,
)
from hf_asr.models.whisper_thin import check_attention_name, check_options, takes_states, thinned
from hf_asr.text import cer_first

logger = logging.getLogger(__name__)

INPUTS = ("input_features", "encoder_outputs", "positions", "log_weights")

# What must be the same after save_pretrained and from_pretrained for a model to decode as it was trained.
KEPT_IN_CHECKPOINTS = (
    "language",
    "task",
    "forced_decoder_ids",
    "decoder_start_token_id",
    "eos_token_id",
    "no_timestamps_token_id",
    "is_multilingual",
    "lang_to_id",
    "task_to_id",
    "suppress_tokens",
    "begin_suppress_tokens",
)


def load_model(model: ModelArguments, data: DataArguments, processor: ProcessorMixin, seed: int) -> PreTrainedModel:
    """Load a checkpoint, or build ``config:NAME``; float32 unless ``model.dtype`` says otherwise.

    Args:
        model: The ``model`` section; its dropouts are written into the config.
        data: Language and task.
        processor: From :func:`load_processor`, of the same sections.
        seed: ``experiment.seed``: with the name after ``config:`` it decides the random weights.

    Raises:
        UserError: There is no such checkpoint, or it is damaged.
    """
    config = load_config(model, processor)
    _check_vocabulary(config, processor.tokenizer)
    if is_config_name(model):
        name = model.name_or_path.removeprefix(CONFIG_PREFIX)
        loaded = finish_random(random_model(name, seed, config, model.attn_implementation), model)
        loaded.generation_config = published_generation_config(
            config, processor.tokenizer, is_multilingual_checkpoint(model, processor.tokenizer)
        )
    else:
        loaded = load_weights(WhisperForConditionalGeneration, model, config)
    configure_generation(loaded, processor, model, data)
    return loaded


def configure_generation(
    model: PreTrainedModel, processor: ProcessorMixin, arguments: ModelArguments, data: DataArguments
) -> None:
    """Write language and task into a model's generation config, and what it lacks; in place.

    Raises:
        UserError: The language cannot be served.
    """
    tokenizer = processor.tokenizer
    multilingual = is_multilingual(model.config, model.generation_config, tokenizer)
    # Where a checkpoint has no generation_config.json, one is made of config.json and marked so; with the mark it is
    # made of config.json again when it is read, and language and task are lost.
    model.generation_config._from_model_config = None
    _mend_special_ids(model, tokenizer)
    present = model.generation_config.to_dict()
    for name, value in needed_generation_values(model.config, tokenizer, multilingual).items():
        if present.get(name) is None:
            setattr(model.generation_config, name, value)
    plan = plan_of(arguments, data, tokenizer, multilingual)
    chosen = {"task": data.task if multilingual else None, "forced_decoder_ids": None}
    if plan.token is not None or not multilingual:
        chosen["language"] = plan.token
    for name, value in chosen.items():
        setattr(model.generation_config, name, value)
    if "forced_decoder_ids" in model.config.to_dict():
        model.config.forced_decoder_ids = None


def check_generation_config(folder: str | Path, model: PreTrainedModel) -> None:
    """See that a saved model decodes as the one in memory: language, task, special ids, suppressed tokens.

    Args:
        folder: Where ``model`` was saved.
        model: The model that was saved.

    Raises:
        ValueError: Something was lost on the way.
    """
    check_kept(folder, model, KEPT_IN_CHECKPOINTS)


def make_encoder(processor: ProcessorMixin, model_config: PreTrainedConfig, arguments: Arguments) -> ClipEncoder:
    """Make the encoder of rows: the checkpoint's log-mel, and labels without the start token.

    Raises:
        UserError: A multilingual model was given no language, extractor and model do not fit, or clips are to be
            joined and there are no timestamp tokens.
    """
    extractor, tokenizer, data = processor.feature_extractor, processor.tokenizer, arguments.data
    check_extractor(extractor, model_config)
    _check_new_tokens(arguments.evaluation.generation, 1 + len(label_prefix(tokenizer)), model_config)
    labeller = TokenLabels(
        tokenizer=tokenizer,
        prefix=label_prefix(tokenizer),
        end_token=tokenizer.get_vocab()[END],
        max_tokens=model_config.max_target_positions,
        text_prefix=_text_prefix(tokenizer, data),
        text_pipeline=data.text_pipeline,
    )
    joining = None
    if data.pack and data.pack_timestamps:
        stamps = timestamp_ids(processor, model_config)
        joining = Joiner(
            JointFrames(extractor), TimestampLabels(labeller, tokenizer.get_vocab()[NO_TIMESTAMPS], stamps)
        )
    elif data.pack:
        joining = Joiner(JointFrames(extractor), PlainLabels(labeller))
    return ClipEncoder(
        front_end=LogMel(extractor),
        labeller=labeller,
        identity=content_of(processor),
        level=data.level,
        trim_silence=data.trim_silence,
        min_seconds=data.min_seconds,
        max_seconds=data.max_seconds,
        store_dtype=arguments.features.store_dtype,
        joining=joining,
    )


def make_collator(processor: ProcessorMixin, model: PreTrainedModel) -> Seq2SeqCollator:
    """Make the collator that fills features up to the window this model's encoder takes."""
    extractor = processor.feature_extractor
    return Seq2SeqCollator(
        padder=WindowPadder(extractor.nb_max_frames, extractor.feature_size),
        start_token=model.config.decoder_start_token_id,
        pad_token=model.config.pad_token_id,
        most_labels=model.config.max_target_positions,
    )


def window_padder(processor: ProcessorMixin, model: PreTrainedModel, window: WindowChoice) -> PlannedPadder:
    """Make what pads clips for a window of ``thinned`` or ``clip``, for a model that takes plans."""
    extractor, positions = processor.feature_extractor, model.config.max_source_positions
    assert extractor.nb_max_frames == positions * FRAMES_PER_POSITION, extractor
    if window.name == "clip":
        return PlannedPadder(Window(positions, stride=0, bucket=CLIP_BUCKET), extractor.feature_size)
    keep = round(window.keep_seconds * positions * extractor.sampling_rate / extractor.n_samples)
    return PlannedPadder(Window(positions, keep, window.stride, run=window.run), extractor.feature_size)


def decode(
    model: PreTrainedModel, processor: ProcessorMixin, batch: Mapping[str, Any], generation: Mapping[str, Any]
) -> list[str]:
    """Write one text a clip with the model's own ``generate``.

    Greedy, without temperature fallback, unless ``generation`` says otherwise. The attention mask is all ones, as the
    encoder has none; it only tells ``generate`` that nothing has to be inferred from padding.

    Args:
        model: The model, or one with adapters.
        processor: Its processor.
        batch: ``input_features`` (B, F, M), on the model's device and in its dtype; ``positions`` and
            ``log_weights`` (B, S) where the window is not full; ``encoder_outputs`` (B, S, D) from a bank.
        generation: Options of ``generate``.

    Raises:
        UserError: ``generate`` refuses an option's value.
    """
    writer = cast(WhisperForConditionalGeneration, model)
    inputs = {name: batch[name] for name in INPUTS if name in batch}
    # Features are (B, F, M), states (B, S, D). What stands in for a model (hf_asr.export) has no device of its own.
    given = batch["input_features"] if "input_features" in batch else inputs["encoder_outputs"]
    clips, length = given.shape[::2] if "input_features" in batch else given.shape[:2]
    mask = torch.ones(clips, length, dtype=torch.long, device=given.device)
    options = {"use_cache": True, **generation}  # training with checkpointing leaves config.use_cache off
    with generating(options):
        ended = leaving(writer, options)
        tokens = writer.generate(attention_mask=mask, **inputs, **options, **ended)
    return list(processor.batch_decode(tokens, skip_special_tokens=True))


def _text_prefix(tokenizer: WhisperTokenizer, data: DataArguments) -> str:
    """Return what Whisper writes before the first word: a space, in languages that have spaces.

    Whisper's segments are joined by appending them, so a model that unlearns the space glues words together in long
    audio. Untrained, it also expects it: on 32 clips of unheard speakers the tests' English checkpoint needs 1.8 nats
    a label token with it, 5.5 without.
    """
    spoken = data.language or tokenizer.language
    return "" if data.task == "transcribe" and cer_first(spoken) else " "


def notes(processor: ProcessorMixin, model: ModelArguments, data: DataArguments) -> list[str]:
    """Return what a reader of the card should know about the language; empty when all is as expected."""
    plan = plan_of(model, data, processor.tokenizer, processor.tokenizer.task is not None)
    return [plan.warning] if plan.warning else []


def _mend_special_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Take start and end from the tokenizer where the model has others, as a bare ``WhisperConfig()`` does."""
    vocabulary = tokenizer.get_vocab()
    right = {"decoder_start_token_id": vocabulary[START], "eos_token_id": vocabulary[END]}
    wrong = {name: value for name, value in right.items() if model.config.to_dict().get(name) != value}
    if not wrong:
        return
    logger.warning("special ids of the model do not fit the tokenizer, the tokenizer's are taken: %s", wrong)
    for name, value in (right | {"bos_token_id": vocabulary[END], "pad_token_id": vocabulary[END]}).items():
        setattr(model.config, name, value)
        setattr(model.generation_config, name, value)


def _check_new_tokens(generation: Mapping[str, Any], prefix: int, config: PreTrainedConfig) -> None:
    """See that what may be written fits into the decoder; ``generate`` would say so only in the first validation."""
    most = config.max_target_positions - prefix
    if generation.get("max_new_tokens", 1) > most:
        raise UserError(
            f"evaluation.generation.max_new_tokens: expected at most {most} (the decoder's positions less {prefix} "
            f"before the text), found {generation['max_new_tokens']}. Lower or remove it."
        )


def _check_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    highest = max(tokenizer.get_vocab().values())
    if highest >= config.vocab_size:
        raise UserError(
            f"model.tokenizer_name_or_path: expected ids below the model's {config.vocab_size} entries, found a "
            f"tokenizer that goes up to {highest}. Give the tokenizer of this checkpoint."
        )


def _load_model(arguments: Arguments, processor: ProcessorMixin) -> PreTrainedModel:
    evaluation, takes_plans = arguments.evaluation, not arguments.model.window == arguments.evaluation.window == "full"
    if takes_plans:
        check_attention_name(arguments.model.attn_implementation)
    loaded = load_model(arguments.model, arguments.data, processor, arguments.experiment.seed)
    if evaluation.window != "full":
        check_options(loaded.generation_config.to_dict() | dict(evaluation.generation))
    whisper = cast(WhisperForConditionalGeneration, loaded)
    if takes_plans:
        return thinned(whisper)
    return loaded if arguments.features.bank == "off" else takes_states(whisper)


FAMILY = ModelFamily(
    name="whisper",
    recipe="finetune_seq2seq",
    model_types=("whisper",),
    config_names=tuple(SHAPES),
    load_processor=lambda arguments, train: load_processor(arguments.model, arguments.data),
    load_config=lambda arguments, processor: load_config(arguments.model, processor),
    load_model=_load_model,
    build=WhisperForConditionalGeneration,
    make_encoder=make_encoder,
    make_collator=make_collator,
    decode=decode,
    decoding_options=generation_options,
    check_decoding=check_generation,
    check_saved=check_generation_config,
    notes=lambda arguments, processor: notes(processor, arguments.model, arguments.data),
    loss=TOKENS,
    head="proj_out",
    # The query and value projections of all three attentions, the usual choice for Whisper (and LoRA's own, Hu 2021).
    lora_targets=("q_proj", "v_proj"),
    freezable={
        "encoder": ("model.encoder.*",),
        "feature_encoder": ("model.encoder.conv1.*", "model.encoder.conv2.*"),
        "encoder_layers": ("model.encoder.layers.*",),
        "encoder_self_attention": ("model.encoder.layers.*.self_attn*",),
        "encoder_feed_forward": ("model.encoder.layers.*.fc?.*",),
        "decoder": ("model.decoder.*",),
        "decoder_layers": ("model.decoder.layers.*",),
        "decoder_self_attention": ("model.decoder.layers.*.self_attn*",),
        "cross_attention": ("model.decoder.layers.*.encoder_attn*",),
        "decoder_feed_forward": ("model.decoder.layers.*.fc?.*",),
        "embeddings": ("model.decoder.embed_tokens.*", "model.decoder.embed_positions.*"),
        # proj_out is tied to the token embedding: one parameter, named after the embedding.
        "head": ("model.decoder.embed_tokens.*",),
        "layer_norms": ("*layer_norm.*",),
    },
    encoder_layers_prefix="model.encoder.layers",
    encoder_inputs=("input_features", "positions", "log_weights"),
    set_language=lambda model, processor, arguments: configure_generation(
        model, processor, arguments.model, arguments.data
    ),
    window_padder=window_padder,
)
