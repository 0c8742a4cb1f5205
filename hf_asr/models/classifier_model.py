"""The classifier as a transformers model: any speech encoder, and a head that gives a class or a number.

Importing this module registers both models with AutoConfig, AutoModel and AutoModelForAudioClassification, so that
``from_pretrained`` and ``pipeline("audio-classification")`` know them.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from hf_asr.config.adapting import HeadArguments
from hf_asr.models.classifier_encoders import make_encoder, num_states, run_encoder
from hf_asr.models.classifier_head import ClassifierHead, HeadShape

logger = logging.getLogger(__name__)

# The largest number of float16: states are rounded to that type where the encoder is frozen.
LARGEST_HALF = 65504.0


class SpeechClassifierConfig(PreTrainedConfig):
    """Config of a classifier: that of its encoder, and what the ``head`` section said.

    Attributes:
        encoder: Config of the encoder.
        layers: ``last`` or ``weighted``.
        scales: Frames that are averaged into one.
        blocks: Transformer blocks of the head.
        stochastic_depth: Probability of leaving out a clip's last block.
        pooling: How states become one vector.
        head_dropout: ``rising`` or a probability.
        norm: ``layer``, ``batch`` or ``none``.
        class_weights: Weight of each class in the loss; None for 1.
        target_mean: Mean of train's numbers; logits are standardised by it.
        target_std: Their standard deviation.
        guess: What one would say without listening: train's commonest class, or its mean.
        round_states: States are rounded to float16, as a bank keeps them; for frozen encoders.
    """

    model_type = "hf_asr_classifier"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "encoder": SubConfigSpec(config_class=AutoConfig, model_type="wav2vec2")
    }

    encoder: Any = None
    layers: str = "weighted"
    scales: list[int] | tuple[int, ...] = (1,)
    blocks: int = 0
    stochastic_depth: float = 0.0
    pooling: str = "statistics"
    head_dropout: float | str = "rising"
    norm: str = "layer"
    class_weights: list[float] | None = None
    target_mean: float = 0.0
    target_std: float = 1.0
    guess: str = ""
    round_states: bool = False

    @property
    def hidden_size(self) -> int:
        """Width of the encoder."""
        return num_states(self.encoder)[1]

    def head_shape(self) -> HeadShape:
        """Return what decides the head's modules."""
        layers, width = num_states(self.encoder)
        return HeadShape(
            width=width,
            num_layers=layers if self.layers == "weighted" else 1,
            outputs=len(self.id2label or {}),
            scales=self.scales,
            blocks=self.blocks,
            stochastic_depth=self.stochastic_depth,
            pooling=self.pooling,
            dropout=self.head_dropout,
            norm=self.norm,
        )


class SpeechRegressorConfig(SpeechClassifierConfig):
    """Config of a model that tells a number; one output, standardised."""

    model_type = "hf_asr_regressor"


class SpeechClassifier(PreTrainedModel):
    """An encoder with a classification head on its states."""

    config_class = SpeechClassifierConfig
    base_model_prefix = "encoder"
    main_input_name = "input_features"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.encoder = make_encoder(config.encoder)
        self.head = ClassifierHead(config.head_shape())
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Leave the head as torch made it: its modules were drawn when they were built."""

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_states: torch.Tensor | None = None,
        states_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits.

        Args:
            input_features: Features as the encoder takes them: (B, F, M) for Whisper, else (B, M, F).
            input_values: Waveforms (B, T), for encoders that take those.
            attention_mask: (B, M) or (B, T), 1 inside a clip; without it a clip fills its features.
            encoder_states: States (B, K, S, D) of a bank, in place of the above: the encoder is not run.
            states_mask: (B, S), true inside a clip; needed with ``encoder_states``.
            kwargs: Ignored; a pipeline hands on what it was given.

        Returns:
            ``logits``: (B, classes), or (B, 1), a standardised number.
        """
        if encoder_states is None:
            encoder_states, states_mask = self.encode(input_features, input_values, attention_mask)
        assert states_mask is not None, "states of a bank come with their mask"
        return SequenceClassifierOutput(logits=self.head(encoder_states, states_mask.bool()))

    def encode(
        self,
        input_features: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the head works on: states (B, K, S, D) and their mask (B, S); see :meth:`forward`."""
        name = "input_features" if input_values is None else "input_values"
        inputs = input_features if input_values is None else input_values
        assert inputs is not None, "expected input_features, input_values or encoder_states"
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_encoder()):
            states, mask = run_encoder(self.encoder, inputs, attention_mask, name, self.config.layers == "weighted")
        return (rounded(states) if self.config.round_states else states), mask

    def trains_encoder(self) -> bool:
        """Tell whether a weight of the encoder, or an adapter in it, gets gradients."""
        return any(parameter.requires_grad for parameter in self.encoder.parameters())


class SpeechRegressor(SpeechClassifier):
    """An encoder with a head that tells one number."""

    config_class = SpeechRegressorConfig


def rounded(states: torch.Tensor) -> torch.Tensor:
    """Return states as they would come out of a bank: float16's digits in their own type."""
    return states.clamp(-LARGEST_HALF, LARGEST_HALF).half().to(states.dtype)


def tell_kept_head(head: HeadArguments, saved: SpeechClassifierConfig) -> None:
    """Warn where the ``head`` section asks for another head than the saved one, which is kept."""
    fresh, kept = vars(HeadArguments()), saved.to_dict() | {"dropout": saved.head_dropout}
    names = ("layers", "scales", "blocks", "stochastic_depth", "pooling", "dropout", "norm")
    ignored = [name for name in names if vars(head)[name] not in (fresh[name], kept[name])]
    if ignored:
        logger.warning("head.%s: not used, since the checkpoint has its own head", ", head.".join(ignored))


MODELS = {"hf_asr_classifier": SpeechClassifier, "hf_asr_regressor": SpeechRegressor}


def register() -> None:
    """Make transformers' Auto classes, and its pipelines, know both models."""
    for name, model in MODELS.items():
        AutoConfig.register(name, model.config_class, exist_ok=True)
        AutoModel.register(model.config_class, model, exist_ok=True)
        AutoModelForAudioClassification.register(model.config_class, model, exist_ok=True)
        MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES[name] = model.__name__


register()
