"""A whole Whisper checkpoint of a few thousand parameters, made in a test, in a folder like a published one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

AFTER_LANGUAGES = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")


def tiny_tokenizer(languages: Sequence[str] = ("en", "ru"), chunk_length: int = 4) -> WhisperTokenizer:
    """Return a byte-level Whisper tokenizer: 256 bytes, then Whisper's special tokens in their real order.

    WhisperTokenizer counts a language's id from its place in Whisper's list, so all languages up to the last
    one asked for are there: ("en", "ru") has en, zh, de, es and ru.
    """
    order = list(LANGUAGES)
    known = order[: max(order.index(language) for language in languages) + 1]
    names = ["endoftext", "startoftranscript", *known, *AFTER_LANGUAGES]
    special = [f"<|{name}|>" for name in names]
    vocabulary = {byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {token: len(vocabulary) + index for index, token in enumerate(special)}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[], pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    stamps = [f"<|{index * 0.02:.2f}|>" for index in range(chunk_length * 50 + 1)]
    tokenizer.add_tokens([AddedToken(stamp, special=False) for stamp in stamps])
    return tokenizer


def tiny_config(tokenizer: WhisperTokenizer, chunk_length: int = 4, **changes: object) -> WhisperConfig:
    """Return a one-layer config whose special ids are the tokenizer's."""
    vocabulary = tokenizer.get_vocab()
    end = vocabulary["<|endoftext|>"]
    values = {
        "vocab_size": len(tokenizer),
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "num_mel_bins": 80,
        "max_source_positions": chunk_length * 50,
        "max_target_positions": 128,
        "decoder_start_token_id": vocabulary["<|startoftranscript|>"],
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "begin_suppress_tokens": None,
    }
    return WhisperConfig(**(values | changes))


def tiny_generation_config(
    tokenizer: WhisperTokenizer, config: WhisperConfig, multilingual: bool = True
) -> GenerationConfig:
    """Return the generation config a published checkpoint of this kind has."""
    vocabulary = tokenizer.get_vocab()
    values = {
        "decoder_start_token_id": config.decoder_start_token_id,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "max_length": config.max_target_positions,
        "no_timestamps_token_id": vocabulary["<|notimestamps|>"],
        "prev_sot_token_id": vocabulary["<|startofprev|>"],
        "return_timestamps": False,
        "is_multilingual": multilingual,
        "max_initial_timestamp_index": 50,
        "alignment_heads": [[0, 0]],
        "begin_suppress_tokens": [config.eos_token_id],
        "suppress_tokens": [vocabulary[f"<|{name}|>"] for name in AFTER_LANGUAGES[:4]],
    }
    if multilingual:
        found = {f"<|{language}|>" for language in LANGUAGES} & set(vocabulary)
        values["lang_to_id"] = {token: vocabulary[token] for token in sorted(found)}
        values["task_to_id"] = {task: vocabulary[f"<|{task}|>"] for task in ("transcribe", "translate")}
    return GenerationConfig(**values)


def make_tiny_whisper(
    folder: str | Path,
    languages: Sequence[str] = ("en", "ru"),
    multilingual: bool = True,
    *,
    chunk_length: int = 4,
    seed: int = 0,
    **changes: object,
) -> Path:
    """Write a random Whisper with its tokenizer and extractor into ``folder`` and return it.

    Args:
        folder: Where to write; made when missing.
        languages: Languages that must have a token, see :func:`tiny_tokenizer`.
        multilingual: False makes an English-only one, like the ``.en`` checkpoints.
        chunk_length: Window in seconds; 4 gives 400 frames and 200 encoder states.
        seed: The weights are a function of it.
        changes: Fields of WhisperConfig to set, such as ``d_model=32`` or ``num_mel_bins=128``.
    """
    tokenizer = tiny_tokenizer(languages, chunk_length)
    config = tiny_config(tokenizer, chunk_length, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config)
    model.generation_config = tiny_generation_config(tokenizer, config, multilingual)
    extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=chunk_length)
    model.save_pretrained(folder)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return Path(folder)
