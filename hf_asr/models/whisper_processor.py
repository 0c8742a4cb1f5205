"""Whisper's feature extractor, tokenizer and config: what is read before any weights are.

Special ids are looked up in the vocabulary: ``convert_tokens_to_ids`` answers the end token for one that is not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE
from transformers.utils import GENERATION_CONFIG_NAME

from hf_asr.config.arguments import DataArguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.features.packing import GRID, STEP_SECONDS
from hf_asr.models.checkpoints import CONFIG_PREFIX, config_values, is_config_name, reporting, revision_of
from hf_asr.models.whisper_configs import (
    END,
    ENGLISH_VOCABULARY,
    NO_TIMESTAMPS,
    SHAPES,
    SPACE,
    START,
    TASKS,
    architecture,
)
from hf_asr.models.whisper_languages import LanguagePlan, language_plan, languages_of

logger = logging.getLogger(__name__)


def load_processor(model: ModelArguments, data: DataArguments) -> ProcessorMixin:
    """Load or build the feature extractor and the tokenizer; the tokenizer's prefix has language and task.

    Without ``data.language`` a multilingual tokenizer keeps the language it was saved with, if any.

    Raises:
        UserError: Files are missing or of another kind, or the language cannot be served.
    """
    tokenizer = _load_tokenizer(model)
    multilingual = is_multilingual_checkpoint(model, tokenizer)
    plan = plan_of(model, data, tokenizer, multilingual)
    if plan.warning:
        logger.warning("%s", plan.warning)
    _set_prefix(tokenizer, plan, data.task if multilingual else None)
    return WhisperProcessor(_load_extractor(model), tokenizer)


def load_config(model: ModelArguments, processor: ProcessorMixin) -> WhisperConfig:
    """Return the model's config without its weights; the dropouts are those of the ``model`` section.

    Raises:
        UserError: There is none, or the tokenizer does not fit it.
    """
    if is_config_name(model):
        config = architecture(model.name_or_path.removeprefix(CONFIG_PREFIX), processor.tokenizer)
    else:
        config = _read_config(model)
    config.dropout = model.dropout
    config.attention_dropout = model.attention_dropout
    config.activation_dropout = model.activation_dropout
    config.encoder_layerdrop = model.layerdrop
    config.decoder_layerdrop = model.layerdrop
    return config


def plan_of(
    model: ModelArguments, data: DataArguments, tokenizer: PreTrainedTokenizerBase, multilingual: bool
) -> LanguagePlan:
    """Choose the language token for a configuration, see :func:`language_plan`."""
    return language_plan(data.language, languages_of(tokenizer.get_vocab()), model.language_token, multilingual)


def label_prefix(tokenizer: WhisperTokenizer) -> tuple[int, ...]:
    """Return the ids between the start token and the text, looked up in the vocabulary.

    Raises:
        UserError: A multilingual tokenizer was given no language.
    """
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


def timestamp_ids(processor: ProcessorMixin, config: PreTrainedConfig) -> tuple[int, ...]:
    """Return the ids of ``<|0.00|>``, ``<|0.02|>`` ... up to the end of the window, looked up in the vocabulary.

    Raises:
        UserError: One is missing, or the model has no embedding of it.
    """
    extractor, vocabulary = processor.feature_extractor, processor.tokenizer.get_vocab()
    steps = extractor.nb_max_frames // GRID
    names = [f"<|{step * STEP_SECONDS:.2f}|>" for step in range(steps + 1)]
    missing = [name for name in names if vocabulary.get(name, config.vocab_size) >= config.vocab_size]
    if missing:
        raise UserError(
            f"data.pack: expected a tokenizer and a model with the timestamp tokens {names[0]} to {names[-1]}, which "
            f"tell where each clip begins and ends, found {len(missing)} of {len(names)} missing, {missing[0]} first. "
            "Take the tokenizer of the published checkpoint, or set data.pack_timestamps=false."
        )
    return tuple(vocabulary[name] for name in names)


def check_extractor(extractor: WhisperFeatureExtractor, config: PreTrainedConfig) -> None:
    """See that the features have the shape that the encoder takes.

    Raises:
        UserError: They have not.
    """
    found = (extractor.feature_size, extractor.nb_max_frames, extractor.sampling_rate)
    expected = (config.num_mel_bins, 2 * config.max_source_positions, SAMPLE_RATE)
    if found != expected:
        raise UserError(
            f"model.name_or_path: expected an extractor of (mel bins, frames, Hz) {expected}, as config.json has it, "
            f"found {found} in preprocessor_config.json. Copy that file from the checkpoint this one was made from."
        )


def content_of(processor: ProcessorMixin) -> dict[str, str]:
    """Return hashes that tell this extractor and tokenizer from others, the same after saving and loading."""
    tokenizer = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    # Padding and truncation are left behind by whoever called the tokenizer last; the prefix is hashed by the encoder.
    rules = {name: tokenizer[name] for name in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
    return {
        "extractor": _digest(processor.feature_extractor.to_json_string()),
        "tokenizer": _digest(json.dumps(rules, sort_keys=True)),
    }


def is_multilingual_checkpoint(model: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell from its files whether a checkpoint takes a language."""
    if is_config_name(model):
        shape = SHAPES[model.name_or_path.removeprefix(CONFIG_PREFIX)]
        return shape.vocabulary != ENGLISH_VOCABULARY
    return is_multilingual(_read_config(model), _read_generation_config(model), tokenizer)


def is_multilingual(config: PreTrainedConfig, generation: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a model takes a language: as its generation config says, else by its vocabulary."""
    said = generation.to_dict().get("is_multilingual")
    if said is not None:
        return bool(said)
    vocabulary = tokenizer.get_vocab()
    has_tokens = bool(languages_of(vocabulary)) and all(f"<|{task}|>" in vocabulary for task in TASKS)
    return has_tokens and config.vocab_size != ENGLISH_VOCABULARY


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


def _read_config(model: ModelArguments) -> WhisperConfig:
    values = config_values(model)
    with reporting("model.name_or_path", model.name_or_path, "a Whisper config.json"):
        return WhisperConfig.from_dict(values)


def _read_generation_config(model: ModelArguments) -> GenerationConfig:
    if Path(model.name_or_path, GENERATION_CONFIG_NAME).is_file():
        with reporting("model.name_or_path", model.name_or_path, f"a {GENERATION_CONFIG_NAME} that can be read"):
            return GenerationConfig.from_pretrained(model.name_or_path)
    try:
        return GenerationConfig.from_pretrained(model.name_or_path, revision=revision_of(model))
    except OSError:  # written by hand or long ago: there is no such file
        return GenerationConfig()


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


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
