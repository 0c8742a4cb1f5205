"""The demo's untrained model: Whisper's architecture at a size that two cores train in a minute, offline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

# Whisper's 30 s would spend 93 % of the encoder on silence: every clip of the demo is shorter than 2 s.
WINDOW_SECONDS = 2
MEL_BINS = 80
START, END = "<|startoftranscript|>", "<|endoftext|>"
# In Whisper's order; without language tokens, as the English-only checkpoints use none: the demo's model writes what
# it hears in either of its two languages.
SPECIAL = (
    END,
    START,
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def write_small_whisper(folder: Path, texts: Sequence[str], seed: int) -> Path:
    """Write a random Whisper of 0.7 million parameters with its own tokenizer into ``folder`` and return it.

    Args:
        folder: Where the checkpoint goes, made when missing.
        texts: What the tokenizer learns its pieces from; training texts only.
        seed: The weights are a function of it.
    """
    tokenizer = train_tokenizer(texts)
    config = small_config(tokenizer)
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = generation_config(tokenizer, config)
    extractor = WhisperFeatureExtractor(feature_size=MEL_BINS, chunk_length=WINDOW_SECONDS)
    model.save_pretrained(folder)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def train_tokenizer(texts: Iterable[str]) -> WhisperTokenizer:
    """Learn byte-pair pieces from texts: 256 bytes, merges up to whole words, Whisper's special tokens, timestamps.

    The first word is learnt with a space before it too: what Whisper writes begins with one.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2_000, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator((f" {text}" for text in texts), trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary: dict[str, int] = learnt["vocab"]
    vocabulary |= {token: len(vocabulary) + index for index, token in enumerate(SPECIAL)}
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges, pad_token=END)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    stamps = [f"<|{index * 0.02:.2f}|>" for index in range(WINDOW_SECONDS * 50 + 1)]
    tokenizer.add_tokens([AddedToken(stamp, special=False) for stamp in stamps])
    return tokenizer


def small_config(tokenizer: WhisperTokenizer) -> WhisperConfig:
    """Return Whisper's config with two layers of 96 on either side."""
    vocabulary = tokenizer.get_vocab()
    return WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=MEL_BINS,
        d_model=96,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=384,
        decoder_ffn_dim=384,
        max_source_positions=WINDOW_SECONDS * 50,
        max_target_positions=32,
        decoder_start_token_id=vocabulary[START],
        bos_token_id=vocabulary[END],
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[END],
        begin_suppress_tokens=None,
    )


def generation_config(tokenizer: WhisperTokenizer, config: WhisperConfig) -> GenerationConfig:
    """Return the generation config that a published English-only checkpoint has."""
    vocabulary = tokenizer.get_vocab()
    return GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        max_length=config.max_target_positions,
        is_multilingual=False,
        return_timestamps=False,
        no_timestamps_token_id=vocabulary["<|notimestamps|>"],
        prev_sot_token_id=vocabulary["<|startofprev|>"],
        max_initial_timestamp_index=50,
        begin_suppress_tokens=[vocabulary[END]],
        suppress_tokens=[vocabulary[token] for token in SPECIAL if token not in (END, "<|notimestamps|>")],
        alignment_heads=[[1, head] for head in range(config.decoder_attention_heads)],
    )
