"""A whole Parakeet-TDT checkpoint of a few thousand parameters, made in a test, in a folder like a published one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    ParakeetForTDT,
    ParakeetProcessor,
    ParakeetTDTConfig,
    ParakeetTokenizer,
)

SPECIAL = ("<unk>", "<pad>", "<eos>")
LETTERS = "▁abcdefghijklmnopqrstuvwxyz"
BLANK = "<blank>"


def tiny_parakeet_tokenizer(letters: str = LETTERS) -> ParakeetTokenizer:
    """Return a tokenizer of single letters: 0 to 2 are special, the blank is the last id, as in published ones."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *letters, BLANK])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    backend.add_special_tokens([*SPECIAL, BLANK])
    return ParakeetTokenizer(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", additional_special_tokens=["<eos>", BLANK]
    )


def tiny_parakeet_config(
    vocabulary: int, blank: int, durations: Sequence[int] = (0, 1, 2, 3, 4), **changes: object
) -> ParakeetTDTConfig:
    """Return a one-layer config; ``changes`` are fields of the encoder's."""
    encoder = {
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_kernel_size": 5,
        "subsampling_conv_channels": 8,
        "num_mel_bins": 16,
        "scale_input": False,
        # With the usual 0.02, one layer of random weights gives the same logits to all that it hears.
        "initializer_range": 0.1,
    }
    return ParakeetTDTConfig(
        vocab_size=vocabulary,
        decoder_hidden_size=32,
        num_decoder_layers=1,
        durations=tuple(durations),
        pad_token_id=SPECIAL.index("<pad>"),
        blank_token_id=blank,
        encoder_config=ParakeetEncoderConfig(**(encoder | changes)),
    )


def make_tiny_parakeet(
    folder: str | Path, *, seed: int = 0, durations: Sequence[int] = (0, 1, 2, 3, 4), **changes: object
) -> Path:
    """Write a random Parakeet-TDT with its tokenizer and extractor into ``folder`` and return it.

    Args:
        folder: Where to write; made when missing.
        seed: The weights are a function of it.
        durations: Frames that a token may last.
        changes: Fields of ParakeetEncoderConfig to set, such as ``hidden_size=32``.
    """
    tokenizer = tiny_parakeet_tokenizer()
    blank = tokenizer.get_vocab()[BLANK]
    config = tiny_parakeet_config(len(tokenizer), blank, durations, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ParakeetForTDT(config)
    model.generation_config = GenerationConfig(decoder_start_token_id=blank, pad_token_id=config.pad_token_id)
    extractor = ParakeetFeatureExtractor(feature_size=config.encoder_config.num_mel_bins)
    model.save_pretrained(folder)
    ParakeetProcessor(extractor, tokenizer, blank_token=BLANK, decoder_type="tdt").save_pretrained(folder)
    return Path(folder)
