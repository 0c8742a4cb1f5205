"""Tiny encoders of every kind that a classifier can stand on, and classifiers on them, built from their configs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    HubertConfig,
    MoonshineConfig,
    ParakeetEncoderConfig,
    PreTrainedConfig,
    Speech2TextConfig,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WhisperConfig,
)

from hf_asr.models.classifier_model import SpeechClassifier, SpeechClassifierConfig

SIZES: Mapping[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
CONVOLUTIONS: Mapping[str, Any] = {
    "conv_dim": (8, 8, 8),
    "conv_stride": (10, 8, 4),
    "conv_kernel": (20, 12, 8),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}


def tiny_whisper_config() -> PreTrainedConfig:
    """Return a Whisper of two layers whose window is 40 frames of 8 bins."""
    return WhisperConfig(
        d_model=16,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        num_mel_bins=8,
        max_source_positions=20,
    )


def tiny_moonshine_config() -> PreTrainedConfig:
    """Return a Moonshine of two encoder layers."""
    return MoonshineConfig(
        hidden_size=16,
        intermediate_size=32,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        vocab_size=20,
    )


def tiny_speech2text_config() -> PreTrainedConfig:
    """Return a Speech2Text of two encoder layers on 8 bins."""
    return Speech2TextConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=20,
        conv_channels=16,
        input_feat_per_channel=8,
    )


# Name to config, and numbers a frame (1 for a waveform).
ENCODERS: Mapping[str, tuple[Callable[[], PreTrainedConfig], int]] = {
    "whisper": (tiny_whisper_config, 8),
    "wav2vec2": (lambda: Wav2Vec2Config(**SIZES, **CONVOLUTIONS, feat_extract_norm="group"), 1),
    "wav2vec2-layer": (
        lambda: Wav2Vec2Config(**SIZES, **CONVOLUTIONS, feat_extract_norm="layer", do_stable_layer_norm=True),
        1,
    ),
    "hubert": (lambda: HubertConfig(**SIZES, **CONVOLUTIONS), 1),
    "wavlm": (lambda: WavLMConfig(**SIZES, **CONVOLUTIONS, feat_extract_norm="layer"), 1),
    "wav2vec2-bert": (lambda: Wav2Vec2BertConfig(**SIZES, feature_projection_input_dim=160), 160),
    "speech_to_text": (tiny_speech2text_config, 8),
    "moonshine": (tiny_moonshine_config, 1),
    "parakeet": (
        lambda: ParakeetEncoderConfig(**SIZES, num_mel_bins=16, subsampling_conv_channels=8),
        16,
    ),
}


def tiny_classifier(encoder: PreTrainedConfig | None = None, seed: int = 0, **head: Any) -> SpeechClassifier:
    """Return a classifier of three classes; ``head`` are fields of its config."""
    names = ("angry", "calm", "sad")
    config = SpeechClassifierConfig(
        encoder=encoder or tiny_whisper_config(),
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
        **head,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpeechClassifier(config).eval()


def tiny_batch(name: str, lengths: tuple[int, int] = (4000, 2500)) -> dict[str, torch.Tensor]:
    """Return a padded batch of two clips for an encoder of ``ENCODERS``; Whisper's is its window of 40 frames."""
    generator, size = torch.Generator().manual_seed(0), ENCODERS[name][1]
    frames = {"whisper": (40, 21)}.get(name, lengths if size == 1 else (60, 33))
    mask = torch.zeros(2, frames[0], dtype=torch.int64)
    for index, length in enumerate(frames):
        mask[index, :length] = 1
    values = torch.randn(2, frames[0], size, generator=generator)
    if name == "whisper":
        return {"input_features": values.transpose(1, 2).contiguous(), "attention_mask": mask}
    values = values * mask.unsqueeze(-1)
    given = {"input_values": values[..., 0]} if size == 1 else {"input_features": values}
    return given | {"attention_mask": mask}


def make_tiny_wav2vec2(folder: Path, seed: int = 0) -> Path:
    """Write a random wav2vec2 encoder with its extractor into ``folder`` and return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Wav2Vec2Model(ENCODERS["wav2vec2-layer"][0]()).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder
