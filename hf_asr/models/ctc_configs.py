"""CTC architectures that can be built with random weights, and their feature extractors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers import (
    HubertConfig,
    HubertForCTC,
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetProcessor,
    PreTrainedConfig,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2BertProcessor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WavLMConfig,
    WavLMForCTC,
)


class Kind(NamedTuple):
    """What belongs to a ``model_type``.

    Attributes:
        config: Class of its config.json.
        model: The model with a CTC head.
        extractor: Class of its features.
        processor: What joins extractor and tokenizer.
        head: Name of the CTC head within the model.
        waveform: Whether it takes samples, and not a spectrogram.
    """

    config: Any
    model: Any
    extractor: Any
    processor: Any
    head: str
    waveform: bool


_WAVE = (Wav2Vec2FeatureExtractor, Wav2Vec2Processor)
KINDS: Mapping[str, Kind] = {
    "wav2vec2": Kind(Wav2Vec2Config, Wav2Vec2ForCTC, *_WAVE, "lm_head", True),
    "hubert": Kind(HubertConfig, HubertForCTC, *_WAVE, "lm_head", True),
    "wavlm": Kind(WavLMConfig, WavLMForCTC, *_WAVE, "lm_head", True),
    "wav2vec2-bert": Kind(
        Wav2Vec2BertConfig,
        Wav2Vec2BertForCTC,
        SeamlessM4TFeatureExtractor,
        Wav2Vec2BertProcessor,
        "lm_head",
        False,
    ),
    "parakeet_ctc": Kind(
        ParakeetCTCConfig, ParakeetForCTC, ParakeetFeatureExtractor, ParakeetProcessor, "ctc_head", False
    ),
}

# XLS-R, MMS and the large checkpoints: LayerNorm in the feature encoder, so that they take an attention mask.
_LARGE: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}

# Name after "config:" to model_type and what differs from the class's defaults.
SHAPES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "wav2vec2-base": ("wav2vec2", {}),
    "wav2vec2-xls-r-300m": ("wav2vec2", _LARGE),
    "mms-300m": ("wav2vec2", {**_LARGE, "adapter_attn_dim": 16}),
    "hubert-base": ("hubert", {}),
    "wavlm-base-plus": ("wavlm", {}),
    "w2v-bert-2.0": ("wav2vec2-bert", {}),
    "parakeet-ctc-0.6b": (
        "parakeet_ctc",
        {"encoder_config": {"hidden_size": 1024, "num_hidden_layers": 24, "num_mel_bins": 80}},
    ),
    # For training from random weights on a CPU: 1.4 million parameters, 50 frames a second.
    "w2v-bert-mini": (
        "wav2vec2-bert",
        {
            "hidden_size": 144,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 432,
            "conv_depthwise_kernel_size": 15,
            "left_max_position_embeddings": 32,
            "right_max_position_embeddings": 8,
            "output_hidden_size": 144,
        },
    ),
}


def kind_of(name: str) -> Kind:
    """Return what belongs to a name after ``config:``."""
    return KINDS[SHAPES[name][0]]


def architecture(name: str) -> PreTrainedConfig:
    """Return the config of a name after ``config:``; its vocabulary is still the class's."""
    kind, changes = SHAPES[name]
    config: PreTrainedConfig = KINDS[kind].config(**changes)
    return config


def new_extractor(config: PreTrainedConfig) -> Any:
    """Return the feature extractor that a published checkpoint of this shape has."""
    kind = KINDS[config.model_type]
    if not kind.waveform:
        return kind.extractor()
    # Checkpoints with GroupNorm in the feature encoder were pretrained on zero-padded batches without a mask.
    return kind.extractor(return_attention_mask=config.feat_extract_norm == "layer")
