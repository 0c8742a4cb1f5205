"""Encoders that a classifier can stand on: how each is loaded, fed, and run so that padding changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    MoonshineConfig,
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Speech2TextConfig,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder
from transformers.models.speech_to_text.modeling_speech_to_text import Speech2TextEncoder
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hf_asr.config.arguments import ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.features.collate import InputPadder, LongestPadder, WindowPadder
from hf_asr.features.extract import FrontEnd, LogMel, OneClip
from hf_asr.models.checkpoints import CONFIG_PREFIX, DTYPES, is_config_name, reporting, revision_of
from hf_asr.models.whisper_configs import SHAPES

# Settings of a config that are dropouts, by the key of the model section that sets them.
DROPOUTS = {
    "dropout": ("dropout", "hidden_dropout", "feat_proj_dropout", "final_dropout", "encoder_dropout"),
    "attention_dropout": ("attention_dropout",),
    "activation_dropout": ("activation_dropout",),
    "layerdrop": ("layerdrop", "encoder_layerdrop", "decoder_layerdrop"),
}


@dataclass(frozen=True)
class MaskedWindowPadder:
    """Whisper's window with a mask of the clip's own frames beside it: its encoder has none, but pooling needs one.

    Attributes:
        window: Fills the clips up.
    """

    window: WindowPadder

    def __call__(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return the window's input (B, F, M) and ``attention_mask`` int64 (B, M)."""
        inputs = self.window(clips)
        mask = torch.zeros(max(len(clips), 1), self.window.window_frames, dtype=torch.int64)
        for index, clip in enumerate(clips):
            mask[index, : len(clip)] = 1
        mask[:, 0] = 1
        return {**inputs, "attention_mask": mask}


@dataclass(frozen=True)
class EncoderKind:
    """What differs between encoders.

    Attributes:
        front_end: (extractor, its config) -> features of a clip.
        padder: (extractor, config) -> features of a batch.
        encoder_class: Class of the encoder inside an encoder-decoder; None where the model is one encoder.
        layers: Where the numbered layers are inside the encoder.
    """

    front_end: Callable[[Any, PreTrainedConfig], FrontEnd]
    padder: Callable[[Any, PreTrainedConfig], InputPadder]
    encoder_class: Any = None
    layers: str = "encoder.layers"


def _waveform(extractor: Any, config: PreTrainedConfig) -> FrontEnd:
    """Return the waveform as the extractor leaves it: normalised over the clip alone, before any padding."""
    return OneClip(extractor, "input_values", 1, SAMPLE_RATE)


def _waveform_padder(extractor: Any, config: PreTrainedConfig) -> InputPadder:
    return LongestPadder(1, name="input_values", min_frames=1600, waveform=True)


def _frames(extractor: Any, config: PreTrainedConfig) -> FrontEnd:
    size = feature_size(extractor)
    stacked = 2 if isinstance(config, Wav2Vec2BertConfig) else 1
    options = {"padding": False} if stacked > 1 else {}
    return OneClip(extractor, "input_features", size, 100 / stacked, options=options)


def _frames_padder(extractor: Any, config: PreTrainedConfig) -> InputPadder:
    return LongestPadder(feature_size(extractor), min_frames=8)


def feature_size(extractor: Any) -> int:
    """Return the numbers of a frame; the extractor of Wav2Vec2-BERT puts ``stride`` frames into one."""
    stacked = extractor.stride if isinstance(extractor, SeamlessM4TFeatureExtractor) else 1
    return int(extractor.feature_size * stacked)


def _window_padder(extractor: Any, config: PreTrainedConfig) -> InputPadder:
    return MaskedWindowPadder(WindowPadder(extractor.nb_max_frames, extractor.feature_size))


_WAVEFORM = EncoderKind(_waveform, _waveform_padder)
_FRAMES = EncoderKind(_frames, _frames_padder)
ENCODERS: Mapping[str, EncoderKind] = {
    "whisper": EncoderKind(lambda extractor, config: LogMel(extractor), _window_padder, WhisperEncoder, "layers"),
    "wav2vec2": _WAVEFORM,
    "hubert": _WAVEFORM,
    "wavlm": _WAVEFORM,
    "unispeech": _WAVEFORM,
    "unispeech-sat": _WAVEFORM,
    "data2vec-audio": _WAVEFORM,
    "wav2vec2-bert": _FRAMES,
    "speech_to_text": EncoderKind(_frames, _frames_padder, Speech2TextEncoder, "layers"),
    "moonshine": EncoderKind(_waveform, _waveform_padder, MoonshineEncoder, "layers"),
    "parakeet_encoder": EncoderKind(_frames, _frames_padder, layers="layers"),
}
# Those whose batched output equals that of each clip alone (1e-5): a window of its own, or every frame masked. The
# first convolution of wav2vec2-base's kind is normalised over all samples, padding included.
BATCHED = ("whisper", "wav2vec2-bert")
# Published architectures that can be built with random weights.
CONFIGS: Mapping[str, Callable[[], tuple[PreTrainedConfig, Any]]] = {
    "wav2vec2-base": lambda: (Wav2Vec2Config(), Wav2Vec2FeatureExtractor()),
    "wavlm-base": lambda: (WavLMConfig(), Wav2Vec2FeatureExtractor()),
}


def kind_of(config: PreTrainedConfig) -> EncoderKind:
    """Return how this encoder is fed.

    Raises:
        UserError: No classifier of ours stands on it.
    """
    if config.model_type not in ENCODERS:
        raise UserError(
            f"model.name_or_path: expected a speech encoder ({', '.join(ENCODERS)}, or a model that has one), found "
            f"model_type '{config.model_type}'. Choose another checkpoint."
        )
    return ENCODERS[config.model_type]


def read_encoder(model: ModelArguments) -> tuple[PreTrainedConfig, Any]:
    """Return config and feature extractor of a checkpoint's encoder, or of ``config:NAME``.

    The dropouts are those of the ``model`` section. The encoder's own SpecAugment is off: ``augment.spec_augment`` is
    the one that a run uses.

    Raises:
        UserError: There is no such checkpoint, or it has no encoder that a classifier can stand on.
    """
    if is_config_name(model):
        config, extractor = _published(model.name_or_path.removeprefix(CONFIG_PREFIX))
    else:
        with reporting("model.name_or_path", model.name_or_path, "a speech model with a feature extractor"):
            config = AutoConfig.from_pretrained(model.name_or_path, revision=revision_of(model))
            extractor = AutoFeatureExtractor.from_pretrained(model.name_or_path, revision=revision_of(model))
    if config.model_type.startswith("parakeet") and config.model_type != "parakeet_encoder":
        config = config.encoder_config
    kind_of(config)
    _set_dropouts(config, model)
    if isinstance(extractor, WhisperFeatureExtractor):
        extractor.return_attention_mask = True  # a pipeline then knows where a clip ends
    return config, extractor


def _published(name: str) -> tuple[PreTrainedConfig, Any]:
    if name in SHAPES:
        shape = SHAPES[name]
        config = WhisperConfig(
            num_mel_bins=shape.mel_bins,
            d_model=shape.width,
            encoder_layers=shape.encoder_layers,
            encoder_attention_heads=shape.heads,
            encoder_ffn_dim=4 * shape.width,
        )
        return config, WhisperFeatureExtractor(feature_size=shape.mel_bins)
    if name in CONFIGS:
        return CONFIGS[name]()
    known = ", ".join(f"{CONFIG_PREFIX}{known}" for known in (*SHAPES, *CONFIGS))
    raise UserError(f"model.name_or_path: expected one of {known}, found '{CONFIG_PREFIX}{name}'. Use one of these.")


def _set_dropouts(config: PreTrainedConfig, model: ModelArguments) -> None:
    present = config.to_dict()
    for key, names in DROPOUTS.items():
        for name in names:
            if name in present:
                setattr(config, name, vars(model)[key])
    if "apply_spec_augment" in present:
        config.apply_spec_augment = False


def make_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Build an encoder with random weights."""
    encoder_class = kind_of(config).encoder_class
    config._attn_implementation = attention_of(config, config._attn_implementation)
    return encoder_class(config) if encoder_class is not None else AutoModel.from_config(config)


def attention_of(config: PreTrainedConfig, wanted: str | None) -> str | None:
    """Return how an encoder computes attention: as asked for, but SDPA only where it has one.

    WavLM and Speech2Text have none.
    """
    encoder_class: Any = kind_of(config).encoder_class or MODEL_MAPPING[type(config)]
    return "eager" if wanted == "sdpa" and not encoder_class._supports_sdpa else wanted


def load_encoder(model: ModelArguments, config: PreTrainedConfig) -> PreTrainedModel:
    """Load the encoder of a checkpoint, whatever stands around it there.

    Raises:
        UserError: Its weights are missing, damaged or of another shape.
    """
    with reporting("model.name_or_path", model.name_or_path, "a speech encoder with safetensors weights"):
        loaded, report = AutoModel.from_pretrained(
            model.name_or_path,
            config=config,
            revision=revision_of(model),
            dtype=DTYPES[model.dtype],
            attn_implementation=attention_of(config, model.attn_implementation),
            use_safetensors=True,
            output_loading_info=True,
        )
    inside = kind_of(config).encoder_class is not None
    missing = sorted(name for name in report["missing_keys"] if not inside or "decoder" not in name)
    if missing:
        raise UserError(
            f"model.name_or_path: expected all weights of an encoder in {model.name_or_path}, found {len(missing)} "
            f"missing ({', '.join(missing[:3])}). They would be random: give a whole checkpoint."
        )
    return loaded.get_encoder() if inside else loaded


def pads_cleanly(config: PreTrainedConfig) -> bool:
    """Tell whether a padded batch gives each clip the states it has alone."""
    return config.model_type in BATCHED or config.to_dict().get("feat_extract_norm") == "layer"


def run_encoder(
    encoder: PreTrainedModel, inputs: torch.Tensor, mask: torch.Tensor | None, name: str, every_layer: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the states of a batch and where each clip's are.

    Encoders whose batched output depends on padding are run clip by clip, each at its own length.

    Args:
        encoder: The encoder.
        inputs: (B, F, M) for Whisper, (B, M, F) or (B, T) otherwise.
        mask: (B, M) or (B, T), 1 inside a clip; None for clips that fill the batch.
        name: Name of the input.
        every_layer: Whether the states of all layers are wanted, or the last's.

    Returns:
        States (B, K, S, D), zero behind a clip's end, and their mask (B, S), bool.
    """
    if mask is None or pads_cleanly(encoder.config):
        states = _stack(encoder(**_named(encoder, name, inputs, mask), output_hidden_states=every_layer), every_layer)
        lengths = _lengths(encoder, mask, states)
    else:
        sizes = mask.sum(1).tolist()
        alone = [
            _stack(encoder(**{name: clip[:size].unsqueeze(0)}, output_hidden_states=every_layer), every_layer)
            for clip, size in zip(inputs, sizes, strict=True)
        ]
        lengths = torch.tensor([clip.shape[2] for clip in alone], device=inputs.device)
        padded = pad_sequence([clip[0].transpose(0, 1) for clip in alone], batch_first=True)
        states = padded.transpose(1, 2)
    inside = torch.arange(states.shape[2], device=states.device) < lengths.unsqueeze(1)
    return states * inside[:, None, :, None], inside


def _named(encoder: PreTrainedModel, name: str, inputs: torch.Tensor, mask: torch.Tensor | None) -> dict[str, Any]:
    given = {name: inputs}
    return given if mask is None or isinstance(encoder, WhisperEncoder) else given | {"attention_mask": mask}


def _stack(outputs: Any, every_layer: bool) -> torch.Tensor:
    """Return (B, K, S, D)."""
    return torch.stack(outputs.hidden_states, dim=1) if every_layer else outputs.last_hidden_state.unsqueeze(1)


def _lengths(encoder: Any, mask: torch.Tensor | None, states: torch.Tensor) -> torch.Tensor:
    """Return the states of each clip, at least 1."""
    if mask is None:
        return torch.full((states.shape[0],), states.shape[2], device=states.device)
    frames = mask.sum(1)
    counted: torch.Tensor = encoder._get_feat_extract_output_lengths(frames)
    return counted.clamp(min=1, max=states.shape[2])


def num_states(config: PreTrainedConfig) -> tuple[int, int]:
    """Return (states of all layers that there are, numbers in each)."""
    values = config.to_dict()
    width = values.get("d_model") or values["hidden_size"]
    layers = values.get("encoder_layers") or values.get("encoder_num_hidden_layers") or values["num_hidden_layers"]
    return int(layers) + 1, int(width)


def states_per_second(config: PreTrainedConfig) -> float:
    """Return how many states a second of audio has, within a few per cent."""
    if isinstance(config, Speech2TextConfig):
        return 25.0
    if isinstance(config, MoonshineConfig):
        return SAMPLE_RATE / 384
    return 12.5 if config.model_type.startswith("parakeet") else 50.0
