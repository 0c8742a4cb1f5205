"""Whole CTC checkpoints of a few thousand parameters, one of each architecture, in folders like published ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import ParakeetEncoderConfig, ParakeetFeatureExtractor, ParakeetTokenizer, SeamlessM4TFeatureExtractor

from hf_asr.models.ctc_configs import KINDS, new_extractor
from hf_asr.models.ctc_vocabulary import make_tokenizer, new_vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}
# 40 samples a state at the least stride that is still quick: 200 states a second.
_CONV = {"conv_dim": (16, 16, 16), "conv_kernel": (10, 4, 4), "conv_stride": (10, 4, 4)}
_LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}

# Name to model_type and config values.
TINY: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "wav2vec2": ("wav2vec2", {**_SMALL, **_CONV, **_LAYER_NORM}),
    "wav2vec2_group": ("wav2vec2", {**_SMALL, **_CONV}),
    "mms": ("wav2vec2", {**_SMALL, **_CONV, **_LAYER_NORM, "adapter_attn_dim": 4}),
    "hubert": ("hubert", {**_SMALL, **_CONV, **_LAYER_NORM}),
    "wavlm": ("wavlm", {**_SMALL, **_CONV, **_LAYER_NORM}),
    "w2v_bert": (
        "wav2vec2-bert",
        {**_SMALL, "feature_projection_input_dim": 32, "output_hidden_size": 24, "conv_depthwise_kernel_size": 5},
    ),
    "parakeet": ("parakeet_ctc", {}),
}
_PARAKEET = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_kernel_size": 5,
    "subsampling_factor": 4,
    "subsampling_conv_channels": 8,
    "num_mel_bins": 16,
}


def tiny_config(name: str, vocabulary: int, pad: int = 0, **changes: Any) -> Any:
    """Return the config of a name in ``TINY``."""
    kind, values = TINY[name]
    shared = {"vocab_size": vocabulary, "pad_token_id": pad, **changes}
    if kind == "parakeet_ctc":
        return KINDS[kind].config(encoder_config=ParakeetEncoderConfig(**_PARAKEET), **shared)
    return KINDS[kind].config(**{**values, **shared})


def tiny_extractor(config: Any) -> Any:
    """Return the feature extractor that belongs to a tiny config."""
    kinds = {
        "wav2vec2-bert": lambda: SeamlessM4TFeatureExtractor(feature_size=16, num_mel_bins=16),
        "parakeet_ctc": lambda: ParakeetFeatureExtractor(feature_size=16),
    }
    return kinds.get(config.model_type, lambda: new_extractor(config))()


def parakeet_tokenizer(letters: str = LETTERS) -> ParakeetTokenizer:
    """Return a tokenizer of single letters with ``▁`` before words; the blank is the last id, as in published ones."""
    vocabulary = {token: index for index, token in enumerate(["<unk>", "▁", *letters, "<pad>"])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    backend.add_special_tokens(["<unk>", "<pad>"])
    return ParakeetTokenizer(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>")


def make_tiny_ctc(
    folder: Path, name: str = "wav2vec2", *, letters: str = LETTERS, head: bool = True, seed: int = 0, **changes: Any
) -> Path:
    """Write a checkpoint; return ``folder``.

    Args:
        folder: Where it goes.
        name: A name in ``TINY``.
        letters: Characters of its vocabulary.
        head: Whether it has a head and a vocabulary; else it is a pretrained encoder.
        seed: Of the weights.
        changes: Values of its config.
    """
    kind = KINDS[TINY[name][0]]
    tokenizer: Any = parakeet_tokenizer(letters) if name == "parakeet" else make_tokenizer(new_vocabulary(letters))
    config = tiny_config(name, len(tokenizer), tokenizer.pad_token_id, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.model(config)
    extractor = tiny_extractor(config)
    if head:
        model.save_pretrained(folder)
        kind.processor(extractor, tokenizer).save_pretrained(folder)
    else:
        model.base_model.save_pretrained(folder)
        extractor.save_pretrained(folder)
    return folder
