"""Whisper's published architectures, to be built with random weights, and what their generation config holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS, NON_SPEECH_TOKENS_MULTI

from hf_asr.errors import UserError
from hf_asr.models.checkpoints import own_random_state, random_weights
from hf_asr.models.whisper_languages import languages_of

START = "<|startoftranscript|>"
END = "<|endoftext|>"
NO_TIMESTAMPS = "<|notimestamps|>"
PREVIOUS = "<|startofprev|>"
# A space in a byte-level vocabulary.
SPACE = "Ġ"
TASKS = ("transcribe", "translate")
# Never written by a model; <|nospeech|> is called <|nocaptions|> in some tokenizers.
NEVER_WRITTEN = (START, "<|translate|>", "<|transcribe|>", "<|startoflm|>", PREVIOUS, "<|nospeech|>", "<|nocaptions|>")
# Vocabulary of the .en checkpoints; no multilingual one has as few entries.
ENGLISH_VOCABULARY = 51_864


class Shape(NamedTuple):
    """Sizes of one checkpoint; the feed-forward layers are four times as wide as ``width``."""

    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    mel_bins: int
    vocabulary: int


SHAPES: Mapping[str, Shape] = {
    "whisper-tiny": Shape(384, 4, 4, 6, 80, 51_865),
    "whisper-tiny.en": Shape(384, 4, 4, 6, 80, ENGLISH_VOCABULARY),
    "whisper-base": Shape(512, 6, 6, 8, 80, 51_865),
    "whisper-base.en": Shape(512, 6, 6, 8, 80, ENGLISH_VOCABULARY),
    "whisper-small": Shape(768, 12, 12, 12, 80, 51_865),
    "whisper-small.en": Shape(768, 12, 12, 12, 80, ENGLISH_VOCABULARY),
    "whisper-medium": Shape(1024, 24, 24, 16, 80, 51_865),
    "whisper-medium.en": Shape(1024, 24, 24, 16, 80, ENGLISH_VOCABULARY),
    "whisper-large": Shape(1280, 32, 32, 20, 80, 51_865),
    "whisper-large-v2": Shape(1280, 32, 32, 20, 80, 51_865),
    "whisper-large-v3": Shape(1280, 32, 32, 20, 128, 51_866),
    "whisper-large-v3-turbo": Shape(1280, 32, 4, 20, 128, 51_866),
}


def architecture(name: str, tokenizer: PreTrainedTokenizerBase) -> WhisperConfig:
    """Return the config of a published checkpoint, its special ids looked up in ``tokenizer``.

    ``WhisperConfig()`` itself mixes the multilingual vocabulary with the special ids of the ``.en`` checkpoints.

    Raises:
        UserError: The tokenizer has more entries than the checkpoint.
    """
    shape = SHAPES[name]
    if len(tokenizer) > shape.vocabulary:
        raise UserError(
            f"model.tokenizer_name_or_path: expected at most {shape.vocabulary} entries for {name}, found "
            f"{len(tokenizer)}. Give the tokenizer of that checkpoint (.en ones have their own)."
        )
    vocabulary = tokenizer.get_vocab()
    return WhisperConfig(
        vocab_size=shape.vocabulary,
        num_mel_bins=shape.mel_bins,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width,
        decoder_ffn_dim=4 * shape.width,
        decoder_start_token_id=vocabulary[START],
        bos_token_id=vocabulary[END],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
        begin_suppress_tokens=None,
    )


def random_model(name: str, seed: int, config: WhisperConfig, attn_implementation: str) -> Any:
    """Build a model whose weights are a function of ``seed`` and ``name``; the global random state is left alone.

    Returns:
        A WhisperForConditionalGeneration in float32.
    """
    with own_random_state(seed, name):
        return random_weights(WhisperForConditionalGeneration, config, attn_implementation)


def published_generation_config(
    config: WhisperConfig, tokenizer: PreTrainedTokenizerBase, multilingual: bool
) -> GenerationConfig:
    """Return a generation config like a published checkpoint's."""
    vocabulary = tokenizer.get_vocab()
    last_layers = range(config.decoder_layers // 2, config.decoder_layers)
    values = needed_generation_values(config, tokenizer, multilingual) | {
        "bos_token_id": config.bos_token_id,
        "pad_token_id": config.pad_token_id,
        "prev_sot_token_id": vocabulary[PREVIOUS],
        "begin_suppress_tokens": [vocabulary[SPACE], vocabulary[END]],
        "suppress_tokens": suppressed_tokens(vocabulary),
        "max_initial_timestamp_index": 50,
        # OpenAI's own default where no heads were picked by hand: all of the upper half of the layers.
        "alignment_heads": [[layer, head] for layer in last_layers for head in range(config.decoder_attention_heads)],
    }
    return GenerationConfig(**values)


def needed_generation_values(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, multilingual: bool
) -> dict[str, Any]:
    """Return what generation cannot do without: start and end, language and task ids, the longest output."""
    vocabulary = tokenizer.get_vocab()
    values: dict[str, Any] = {
        "decoder_start_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END],
        "pad_token_id": vocabulary[END],
        "no_timestamps_token_id": vocabulary[NO_TIMESTAMPS],
        "is_multilingual": multilingual,
        "return_timestamps": False,
        "max_length": config.max_target_positions,
    }
    if multilingual:
        values["lang_to_id"] = {f"<|{code}|>": vocabulary[f"<|{code}|>"] for code in languages_of(vocabulary)}
        values["task_to_id"] = {task: vocabulary[f"<|{task}|>"] for task in TASKS}
    return values


def suppressed_tokens(vocabulary: Mapping[str, int]) -> list[int]:
    """Return the ids that generation never writes: special tokens, and symbols that are not spoken.

    The symbols are those of OpenAI's two vocabularies, told by their end tokens; other vocabularies have none.
    """
    symbols = {50_256: NON_SPEECH_TOKENS, 50_257: NON_SPEECH_TOKENS_MULTI}.get(vocabulary[END], [])
    special = [vocabulary[token] for token in NEVER_WRITTEN if token in vocabulary]
    return sorted({*special, *(id for id in symbols if id < vocabulary[END])})
