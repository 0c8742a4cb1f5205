"""Whole Speech2Text checkpoints of a few thousand parameters, with sentencepiece tokenizers trained on the spot."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece
import torch
from transformers import (
    Speech2TextConfig,
    Speech2TextFeatureExtractor,
    Speech2TextForConditionalGeneration,
    Speech2TextProcessor,
    Speech2TextTokenizer,
)
from transformers.models.speech_to_text.tokenization_speech_to_text import MUSTC_LANGS

ENGLISH = ("one two three four five six seven eight nine zero", "hello world this is a text 0 1 2 3 4 5 6 7 8 9")


def make_tokenizer(
    folder: Path, lines: Iterable[str], language: str | None = None, kind: str = "char", pieces: int = 1000
) -> Speech2TextTokenizer:
    """Train a tokenizer and write it into ``folder`` like a published one.

    Args:
        folder: Where to write; made when missing.
        lines: What it must be able to spell.
        language: Target language of a multilingual tokenizer with the eight of MuST-C; None for one language.
        kind: ``char``, one piece a character, ``bpe`` or ``unigram``.
        pieces: Most entries.
    """
    folder.mkdir(parents=True, exist_ok=True)
    languages = [f"<lang:{code}>" for code in MUSTC_LANGS] if language else []
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "sentencepiece.bpe"),
        model_type=kind,
        vocab_size=pieces,
        hard_vocab_limit=False,
        character_coverage=1.0,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        user_defined_symbols=languages,
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    vocabulary = {trained.id_to_piece(index): index for index in range(len(trained))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    codes = {"lang_codes": "mustc", "tgt_lang": language} if language else {}
    tokenizer = Speech2TextTokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"), do_lower_case=True, **codes
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_tiny_speech2text(
    folder: Path, lines: Sequence[str] = ENGLISH, language: str | None = None, *, seed: int = 0, **changes: object
) -> Path:
    """Write a random Speech2Text with its tokenizer and extractor into ``folder`` and return it.

    Args:
        folder: Where to write.
        lines: What its tokenizer can spell.
        language: Target language of a multilingual one.
        seed: The weights are a function of it.
        changes: Fields of Speech2TextConfig.
    """
    tokenizer = make_tokenizer(folder, lines, language)
    values = {
        "vocab_size": len(tokenizer.get_vocab()),
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "conv_channels": 16,
        "max_source_positions": 400,
        "max_target_positions": 128,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Speech2TextForConditionalGeneration(Speech2TextConfig(**(values | changes)))
    model.save_pretrained(folder)
    Speech2TextProcessor(Speech2TextFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder
