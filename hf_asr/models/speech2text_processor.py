"""Speech2Text's feature extractor, tokenizer and config: what is read before any weights are.

The tokenizer may be another than the checkpoint's own, such as a multilingual one for an English model; see
:mod:`hf_asr.models.speech2text_vocabulary` for what that does to the embeddings.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from transformers import (
    PreTrainedConfig,
    ProcessorMixin,
    Speech2TextConfig,
    Speech2TextFeatureExtractor,
    Speech2TextProcessor,
    Speech2TextTokenizer,
)
from transformers.utils import cached_file

from hf_asr.config.arguments import Arguments, DataArguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.models.checkpoints import CONFIG_PREFIX, config_values, is_config_name, reporting, revision_of

logger = logging.getLogger(__name__)

# The encoder looks its positions up with 0 for a frame and 1 for padding, and leaves out what equals pad_token_id: with
# any other pad id its positions are wrong. All tokenizers made by fairseq have 1.
PAD = 1


class Shape(NamedTuple):
    """Sizes of one checkpoint; all have 12 encoder and 6 decoder layers."""

    width: int
    feed_forward: int
    heads: int


SHAPES: Mapping[str, Shape] = {
    "speech2text-small": Shape(256, 2048, 4),
    "speech2text-medium": Shape(512, 2048, 8),
    "speech2text-large": Shape(1024, 4096, 16),
}


def load_processor(model: ModelArguments, data: DataArguments) -> ProcessorMixin:
    """Load or build the fbank extractor and the tokenizer; a tokenizer with language codes is set to the language.

    Without ``data.language`` a multilingual tokenizer keeps the language it was saved with.

    Raises:
        UserError: Files are missing or of another kind, or the tokenizer does not have the language.
    """
    tokenizer = _load_tokenizer(model)
    if tokenizer.lang_code_to_id and (data.language or model.language_token):
        language = _language_of(tokenizer, model.language_token or data.language or "")
        tokenizer.tgt_lang = language
        # save_pretrained writes the arguments that the tokenizer was made with, not its attributes.
        tokenizer.init_kwargs["tgt_lang"] = language
    return Speech2TextProcessor(_load_extractor(model), tokenizer)


def load_config(model: ModelArguments, processor: ProcessorMixin) -> Speech2TextConfig:
    """Return the config that the model is trained with: vocabulary and special ids are the tokenizer's.

    Raises:
        UserError: There is none.
    """
    config = checkpoint_config(model, processor.tokenizer)
    if model.tokenizer_name_or_path is not None:  # else a checkpoint may have more rows than its tokenizer has pieces
        config.vocab_size = vocabulary_size(processor.tokenizer)
    set_special_ids(config, processor.tokenizer)
    return config


def checkpoint_config(model: ModelArguments, tokenizer: Speech2TextTokenizer) -> Speech2TextConfig:
    """Return the config that fits the checkpoint's weights: its vocabulary may be another than the tokenizer's."""
    config = _architecture(model, tokenizer) if is_config_name(model) else _read_config(model)
    config.dropout = model.dropout
    config.attention_dropout = model.attention_dropout
    config.activation_dropout = model.activation_dropout
    config.encoder_layerdrop = model.layerdrop
    config.decoder_layerdrop = model.layerdrop
    return config


def set_special_ids(config: PreTrainedConfig, tokenizer: Speech2TextTokenizer) -> None:
    """Write the tokenizer's special ids into a config; the decoder starts with the end token, as fairseq's do."""
    config.pad_token_id = tokenizer.pad_token_id
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.decoder_start_token_id = tokenizer.eos_token_id


def _read_config(model: ModelArguments) -> Speech2TextConfig:
    values = config_values(model)
    with reporting("model.name_or_path", model.name_or_path, "a Speech2Text config.json"):
        return Speech2TextConfig.from_dict(values)


def _architecture(model: ModelArguments, tokenizer: Speech2TextTokenizer) -> Speech2TextConfig:
    return architecture(model.name_or_path.removeprefix(CONFIG_PREFIX), tokenizer)


def architecture(name: str, tokenizer: Speech2TextTokenizer) -> Speech2TextConfig:
    """Return the config of a name after ``config:`` with the tokenizer's vocabulary."""
    shape = SHAPES[name]
    return Speech2TextConfig(
        vocab_size=vocabulary_size(tokenizer),
        d_model=shape.width,
        encoder_ffn_dim=shape.feed_forward,
        decoder_ffn_dim=shape.feed_forward,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
    )


def vocabulary_size(tokenizer: Speech2TextTokenizer) -> int:
    """Return how many rows an embedding needs for a tokenizer."""
    return 1 + max(tokenizer.get_vocab().values())


def own_vocabulary(model: ModelArguments) -> dict[str, int]:
    """Return the pieces and ids that a checkpoint was trained with, from its vocab.json; empty where it has none."""
    with reporting("model.name_or_path", model.name_or_path, "a vocab.json that can be read"):
        path = cached_file(
            model.name_or_path,
            "vocab.json",
            revision=revision_of(model),
            _raise_exceptions_for_missing_entries=False,
        )
        return dict(json.loads(Path(path).read_text(encoding="utf-8"))) if path is not None else {}


def label_prefix(tokenizer: Speech2TextTokenizer) -> tuple[int, ...]:
    """Return the ids between the start token and the text: the language, where the tokenizer has languages."""
    return (language_id(tokenizer, tokenizer.tgt_lang),) if tokenizer.lang_code_to_id else ()


def language_id(tokenizer: Speech2TextTokenizer, language: str | None) -> int:
    """Return a language's id, looked up in the vocabulary: ``lang_code_to_id`` asks sentencepiece, which may differ."""
    return int(tokenizer.get_vocab()[f"<lang:{language}>"])


def content_of(processor: ProcessorMixin) -> dict[str, str]:
    """Return hashes that tell this extractor and tokenizer from others, the same after saving and loading."""
    tokenizer = processor.tokenizer
    vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()
    return {
        "extractor": hashlib.sha256(processor.feature_extractor.to_json_string().encode()).hexdigest(),
        "tokenizer": hashlib.sha256(vocabulary + tokenizer.sp_model.serialized_model_proto()).hexdigest(),
    }


def check_extractor(extractor: Speech2TextFeatureExtractor, config: PreTrainedConfig) -> None:
    """See that the features have the shape that the encoder takes.

    Raises:
        UserError: They have not.
    """
    found = (extractor.num_mel_bins, extractor.sampling_rate)
    expected = (config.input_feat_per_channel * config.input_channels, SAMPLE_RATE)
    if found != expected:
        raise UserError(
            f"model.name_or_path: expected an extractor of (mel bins, Hz) {expected}, as config.json has it, found "
            f"{found} in preprocessor_config.json. Copy that file from the checkpoint this one was made from."
        )


def swapped_vocabulary(model: ModelArguments, tokenizer: Speech2TextTokenizer) -> dict[str, int] | None:
    """Return the vocabulary that a checkpoint was trained with, where the tokenizer is another one; else None.

    Raises:
        UserError: It is another one, and the checkpoint does not say which pieces its rows stand for.
    """
    if model.tokenizer_name_or_path is None or is_config_name(model):
        return None
    own, rows = own_vocabulary(model), _read_config(model).vocab_size
    if not own and rows != vocabulary_size(tokenizer):
        raise UserError(
            f"model.name_or_path: expected a vocab.json beside the checkpoint, since its {rows} rows are not those of "
            f"{model.tokenizer_name_or_path} ({vocabulary_size(tokenizer)}) and pieces that both know keep their "
            f"embedding, found none in {model.name_or_path}. Copy the checkpoint's own tokenizer there."
        )
    return own if own and own != tokenizer.get_vocab() else None


def described_swap(arguments: Arguments, processor: ProcessorMixin) -> str:
    """Return one sentence about a tokenizer that is not the checkpoint's own; empty when it is."""
    own = swapped_vocabulary(arguments.model, processor.tokenizer)
    if own is None:
        return ""
    given = processor.tokenizer.get_vocab()
    return (
        f"The tokenizer {arguments.model.tokenizer_name_or_path} took the place of the checkpoint's own: "
        f"{len(set(own) & set(given))} of its {len(given)} pieces kept their embedding, the others began at the mean "
        "of the old ones."
    )


def _language_of(tokenizer: Speech2TextTokenizer, asked: str) -> str:
    """Return the tokenizer's own code for a language.

    Raises:
        UserError: It has none.
    """
    code = asked.replace("_", "-").split("-")[0].lower()
    known = sorted(language for language in tokenizer.lang_code_to_id if f"<lang:{language}>" in tokenizer.get_vocab())
    if code not in known:
        raise UserError(
            f"data.language: expected a language of this tokenizer ({', '.join(known)}), found '{asked}'. Give another "
            "tokenizer (model.tokenizer_name_or_path), or set model.language_token to the language that shall stand in."
        )
    return code


def _load_tokenizer(model: ModelArguments) -> Speech2TextTokenizer:
    if is_config_name(model) and model.tokenizer_name_or_path is None:
        raise UserError(
            f"model.tokenizer_name_or_path: expected a Speech2Text tokenizer (a folder or a Hub id), since "
            f"{model.name_or_path} has none of its own, found nothing. Give one, such as "
            "facebook/s2t-medium-mustc-multilingual-st."
        )
    key = "model.name_or_path" if model.tokenizer_name_or_path is None else "model.tokenizer_name_or_path"
    name = model.tokenizer_name_or_path or model.name_or_path
    revision = revision_of(model) if model.tokenizer_name_or_path is None else "main"
    with reporting(key, name, "a Speech2Text tokenizer (vocab.json and sentencepiece.bpe.model)"):
        tokenizer = Speech2TextTokenizer.from_pretrained(name, revision=revision)
    if tokenizer.pad_token_id != PAD:
        raise UserError(
            f"{key}: expected a tokenizer whose padding has the id {PAD}, by which Speech2Text's encoder counts its "
            f"positions, found {tokenizer.pad_token_id} in {name}. Put <pad> there in vocab.json and in the "
            "sentencepiece model (pad_id=1)."
        )
    return tokenizer


def _load_extractor(model: ModelArguments) -> Speech2TextFeatureExtractor:
    if is_config_name(model):
        return Speech2TextFeatureExtractor()
    with reporting("model.name_or_path", model.name_or_path, "a feature extractor (preprocessor_config.json)"):
        return Speech2TextFeatureExtractor.from_pretrained(model.name_or_path, revision=revision_of(model))
