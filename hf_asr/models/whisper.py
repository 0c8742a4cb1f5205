"""Whisper: tiny to large-v3, turbo and Distil-Whisper, multilingual and English-only, in its 30-second window.

Language and task are written once, into the tokenizer's prefix and the generation config; ``forced_decoder_ids``, the
older way, is cleared. Frames and states are read from the extractor and the config, special ids from the vocabulary:
``convert_tokens_to_ids`` answers the end token for a token that is not there.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

from hf_asr.config.arguments import Arguments, DataArguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.features.collate import Seq2SeqCollator
from hf_asr.features.extract import ClipEncoder
from hf_asr.models.checkpoints import (
    CONFIG_PREFIX,
    DTYPES,
    config_values,
    is_config_name,
    load_weights,
    reporting,
    revision_of,
)
from hf_asr.models.family import ModelFamily
from hf_asr.models.whisper_configs import (
    END,
    ENGLISH_VOCABULARY,
    NO_TIMESTAMPS,
    SHAPES,
    SPACE,
    START,
    TASKS,
    architecture,
    needed_generation_values,
    published_generation_config,
    random_model,
)
from hf_asr.models.whisper_languages import LanguagePlan, language_plan, languages_of

logger = logging.getLogger(__name__)

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


def load_processor(model: ModelArguments, data: DataArguments) -> ProcessorMixin:
    """Load or build the feature extractor and the tokenizer; the tokenizer's prefix has language and task.

    Without ``data.language`` a multilingual tokenizer keeps the language it was saved with, if any.

    Raises:
        UserError: Files are missing or of another kind, or the language cannot be served.
    """
    tokenizer = _load_tokenizer(model)
    multilingual = _is_multilingual(model, tokenizer)
    plan = _plan(model, data, tokenizer, multilingual)
    if plan.warning:
        logger.warning("%s", plan.warning)
    _set_prefix(tokenizer, plan, data.task if multilingual else None)
    return WhisperProcessor(_load_extractor(model), tokenizer)


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
    if is_config_name(model):
        name = model.name_or_path.removeprefix(CONFIG_PREFIX)
        config = architecture(name, processor.tokenizer)
        _write_dropouts(config, model)
        loaded = random_model(name, seed, config, model.attn_implementation).to(DTYPES[model.dtype])
        loaded.generation_config = published_generation_config(
            config, processor.tokenizer, _is_multilingual(model, processor.tokenizer)
        )
    else:
        config = _load_config(model)
        _write_dropouts(config, model)
        loaded = load_weights(WhisperForConditionalGeneration, model, config)
    _check_vocabulary(loaded.config, processor.tokenizer)
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
    multilingual = _is_multilingual_config(model.config, model.generation_config, tokenizer)
    _mend_special_ids(model, tokenizer)
    present = model.generation_config.to_dict()
    for name, value in needed_generation_values(model.config, tokenizer, multilingual).items():
        if present.get(name) is None:
            setattr(model.generation_config, name, value)
    plan = _plan(arguments, data, tokenizer, multilingual)
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
    saved = GenerationConfig.from_pretrained(folder).to_dict()
    ours = model.generation_config.to_dict()
    lost = [name for name in KEPT_IN_CHECKPOINTS if saved.get(name) != ours.get(name)]
    if lost:
        found = "; ".join(f"{name} is {saved.get(name)}, was {ours.get(name)}" for name in lost)
        raise ValueError(f"generation_config.json in {folder} does not hold what was trained: {found}")


def make_encoder(processor: ProcessorMixin, model_config: PreTrainedConfig, arguments: Arguments) -> ClipEncoder:
    """Make the encoder of rows: the checkpoint's log-mel, and labels without the start token.

    Raises:
        UserError: A multilingual model was given no language, or extractor and model do not fit.
    """
    extractor, tokenizer, data = processor.feature_extractor, processor.tokenizer, arguments.data
    _check_extractor(extractor, model_config)
    return ClipEncoder(
        extractor=extractor,
        tokenizer=tokenizer,
        label_prefix=_label_prefix(tokenizer),
        end_token=tokenizer.get_vocab()[END],
        max_label_tokens=model_config.max_target_positions,
        identity={
            "extractor": _digest(extractor.to_json_string()),
            "tokenizer": _digest(tokenizer.backend_tokenizer.to_str()),
        },
        text_pipeline=data.text_pipeline,
        level=data.level,
        trim_silence=data.trim_silence,
        min_seconds=data.min_seconds,
        max_seconds=data.max_seconds,
        store_dtype=arguments.features.store_dtype,
    )


def make_collator(processor: ProcessorMixin, model: PreTrainedModel) -> Seq2SeqCollator:
    """Make the collator that fills features up to the window this model's encoder takes."""
    return Seq2SeqCollator(
        start_token=model.config.decoder_start_token_id,
        pad_token=model.config.pad_token_id,
        window_frames=processor.feature_extractor.nb_max_frames,
        feature_size=processor.feature_extractor.feature_size,
    )


def decode(
    model: PreTrainedModel, processor: ProcessorMixin, batch: Mapping[str, Any], generation: Mapping[str, Any]
) -> list[str]:
    """Write one text a clip with the model's own ``generate``.

    Greedy, without temperature fallback, unless ``generation`` says otherwise. The attention mask is all ones, as the
    encoder has none; it only tells ``generate`` that nothing has to be inferred from padding.

    Args:
        model: The model, or one with adapters.
        processor: Its processor.
        batch: ``input_features`` (B, F, M), on the model's device and in its dtype.
        generation: Options of ``generate``.

    Raises:
        UserError: ``generate`` refuses an option's value.
    """
    features, generating = batch["input_features"], cast(WhisperForConditionalGeneration, model)
    mask = torch.ones(features.shape[0], features.shape[-1], dtype=torch.long, device=features.device)
    with _generating(generation):
        tokens = generating.generate(input_features=features, attention_mask=mask, **generation)
    return list(processor.batch_decode(tokens, skip_special_tokens=True))


class _TwoLimits(logging.Filter):
    """Drops the warning that ``max_new_tokens`` overrules the checkpoint's ``max_length``, one for every batch."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "`max_new_tokens` will take precedence" not in record.getMessage()


@contextmanager
def _generating(options: Mapping[str, Any]) -> Iterator[None]:
    """Report what ``generate`` refuses, and leave out what it says of limits that are meant.

    Raises:
        UserError: An option's value is refused.
    """
    spoken, quiet = logging.getLogger("transformers.generation.utils"), _TwoLimits()
    spoken.addFilter(quiet)
    try:
        yield
    except ValueError as error:
        given = ", ".join(f"{name}={value}" for name, value in options.items())
        raise UserError(f"evaluation.generation: expected what generate takes, found {given}: {error}") from error
    finally:
        spoken.removeFilter(quiet)


def notes(processor: ProcessorMixin, model: ModelArguments, data: DataArguments) -> list[str]:
    """Return what a reader of the card should know about the language; empty when all is as expected."""
    plan = _plan(model, data, processor.tokenizer, processor.tokenizer.task is not None)
    return [plan.warning] if plan.warning else []


def _plan(
    model: ModelArguments, data: DataArguments, tokenizer: PreTrainedTokenizerBase, multilingual: bool
) -> LanguagePlan:
    return language_plan(data.language, languages_of(tokenizer.get_vocab()), model.language_token, multilingual)


def _load_tokenizer(model: ModelArguments) -> WhisperTokenizer:
    if is_config_name(model) and model.tokenizer_name_or_path is None:
        raise UserError(
            f"model.tokenizer_name_or_path: expected a Whisper tokenizer (a folder or a Hub id), since "
            f"{model.name_or_path} has none of its own, found nothing. Give one, such as openai/whisper-tiny."
        )
    key = "model.name_or_path" if model.tokenizer_name_or_path is None else "model.tokenizer_name_or_path"
    name = model.tokenizer_name_or_path or model.name_or_path
    revision = revision_of(model) if model.tokenizer_name_or_path is None else "main"
    with reporting(key, name, "a Whisper tokenizer (tokenizer.json or vocab.json)"):
        tokenizer = WhisperTokenizer.from_pretrained(name, revision=revision)
        # Where tokenizer.json is missing, from_pretrained makes a tokenizer of special tokens only, or an empty one.
        missing = [token for token in (START, END, NO_TIMESTAMPS, SPACE) if token not in tokenizer.get_vocab()]
        if missing:
            raise ValueError(f"a vocabulary without {', '.join(missing)}")
    return tokenizer


def _load_extractor(model: ModelArguments) -> WhisperFeatureExtractor:
    if is_config_name(model):
        shape = SHAPES[model.name_or_path.removeprefix(CONFIG_PREFIX)]
        return WhisperFeatureExtractor(feature_size=shape.mel_bins)
    with reporting("model.name_or_path", model.name_or_path, "a feature extractor (preprocessor_config.json)"):
        return WhisperFeatureExtractor.from_pretrained(model.name_or_path, revision=revision_of(model))


def _load_config(model: ModelArguments) -> WhisperConfig:
    values = config_values(model)
    with reporting("model.name_or_path", model.name_or_path, "a Whisper config.json"):
        return WhisperConfig.from_dict(values)


def _is_multilingual(model: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell from its files whether a checkpoint takes a language."""
    if is_config_name(model):
        shape = SHAPES[model.name_or_path.removeprefix(CONFIG_PREFIX)]
        return shape.vocabulary != ENGLISH_VOCABULARY
    config = _load_config(model)
    try:
        generation = GenerationConfig.from_pretrained(model.name_or_path, revision=revision_of(model))
    except OSError:  # written by hand or long ago: there is no such file
        generation = GenerationConfig()
    return _is_multilingual_config(config, generation, tokenizer)


def _is_multilingual_config(
    config: PreTrainedConfig, generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase
) -> bool:
    said = generation.to_dict().get("is_multilingual")
    if said is not None:
        return bool(said)
    vocabulary = tokenizer.get_vocab()
    has_tokens = bool(languages_of(vocabulary)) and all(f"<|{task}|>" in vocabulary for task in TASKS)
    return has_tokens and config.vocab_size != ENGLISH_VOCABULARY


def _set_prefix(tokenizer: WhisperTokenizer, plan: LanguagePlan, task: str | None) -> None:
    """Set what stands before a text, so that it is saved with the tokenizer as well."""
    if plan.token is not None or task is None:
        tokenizer.language = plan.token
    elif tokenizer.language is not None:
        tokenizer.language = TO_LANGUAGE_CODE.get(tokenizer.language.lower(), tokenizer.language)
    tokenizer.task = task
    tokenizer.set_prefix_tokens(predict_timestamps=False)
    # save_pretrained writes the arguments that the tokenizer was made with, not its attributes.
    tokenizer.init_kwargs |= {"language": tokenizer.language, "task": task, "predict_timestamps": False}


def _label_prefix(tokenizer: WhisperTokenizer) -> tuple[int, ...]:
    """Return the ids between the start token and the text, looked up in the vocabulary."""
    vocabulary = tokenizer.get_vocab()
    if tokenizer.task is None:
        return (vocabulary[NO_TIMESTAMPS],)
    if tokenizer.language is None:
        raise UserError(
            "data.language: expected the language of the speech, since labels of a multilingual Whisper begin with its "
            "token, found none. Set data.language, such as data.language=ru."
        )
    names = (f"<|{tokenizer.language}|>", f"<|{tokenizer.task}|>", NO_TIMESTAMPS)
    return tuple(vocabulary[name] for name in names)


def _write_dropouts(config: PreTrainedConfig, model: ModelArguments) -> None:
    config.dropout = model.dropout
    config.attention_dropout = model.attention_dropout
    config.activation_dropout = model.activation_dropout
    config.encoder_layerdrop = model.layerdrop
    config.decoder_layerdrop = model.layerdrop


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


def _check_vocabulary(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    highest = max(tokenizer.get_vocab().values())
    if highest >= config.vocab_size:
        raise UserError(
            f"model.tokenizer_name_or_path: expected ids below the model's {config.vocab_size} entries, found a "
            f"tokenizer that goes up to {highest}. Give the tokenizer of this checkpoint."
        )


def _check_extractor(extractor: WhisperFeatureExtractor, config: PreTrainedConfig) -> None:
    found = (extractor.feature_size, extractor.nb_max_frames, extractor.sampling_rate)
    expected = (config.num_mel_bins, 2 * config.max_source_positions, SAMPLE_RATE)
    if found != expected:
        raise UserError(
            f"model.name_or_path: expected an extractor of (mel bins, frames, Hz) {expected}, as config.json has it, "
            f"found {found} in preprocessor_config.json. Copy that file from the checkpoint this one was made from."
        )


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


FAMILY = ModelFamily(
    name="whisper",
    recipe="finetune_seq2seq",
    model_types=("whisper",),
    config_names=tuple(SHAPES),
    load_processor=load_processor,
    load_model=load_model,
    make_encoder=make_encoder,
    make_collator=make_collator,
    decode=decode,
    configure_generation=configure_generation,
    notes=notes,
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
)
