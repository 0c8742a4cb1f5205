"""Parakeet-TDT: a FastConformer encoder with a token-and-duration transducer, such as nvidia/parakeet-tdt-0.6b-v3.

transformers trains it: ``ParakeetForTDT`` gives the joint network's logits for every pair of state and token, and
``transformers.loss.loss_tdt`` is the loss; see :mod:`hf_asr.models.tdt`. (Parakeet-CTC is in the ctc family.) The
logits take 4 * S * (L + 1) * V bytes a clip, 0.6 GB for 15 s with 100 tokens of 8,198, and the loss about three times
as much again: keep clips short or batches small.

What is done otherwise than plain use of the class would:

* BatchNorm keeps the checkpoint's statistics. Those of a small batch are noise, depend on how a step is cut into
  micro-batches, and count the padding.
* ``generate`` takes the likeliest of the joint network's outputs as the next token, and durations are among them: they
  are suppressed.
* ``generate`` does not stop a clip of a batch that has walked past its end before the others have: what it writes
  there is cut off by its frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    ParakeetForTDT,
    ParakeetProcessor,
    ParakeetTDTConfig,
    ParakeetTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from hf_asr.config.arguments import Arguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.features.collate import LongestPadder
from hf_asr.features.extract import ClipEncoder
from hf_asr.models.checkpoints import (
    CONFIG_PREFIX,
    config_values,
    finish_random,
    is_config_name,
    load_weights,
    own_random_state,
    random_weights,
    reporting,
    revision_of,
)
from hf_asr.models.family import ModelFamily
from hf_asr.models.generating import check_generation, generating, generation_options
from hf_asr.models.tdt import TDT, TransducerCollator, TransducerLabels, encoder_states
from hf_asr.models.whisper_processor import content_of

# The joint network's head: transformers does not find it by itself, as it has a bias.
UNQUANTISED = ("joint.head",)
# Of nvidia/parakeet-tdt-0.6b-v3; vocabulary and blank are the tokenizer's.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "parakeet-tdt-0.6b-v3": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 8,
        "intermediate_size": 4096,
        "num_mel_bins": 128,
        "attention_bias": False,
        "convolution_bias": False,
        "scale_input": False,
    }
}
KEPT_IN_CHECKPOINTS = ("decoder_start_token_id", "pad_token_id", "suppress_tokens")


class FixedBatchNorm(torch.nn.BatchNorm1d):
    """A BatchNorm that never leaves evaluation mode: it normalises by the statistics it was loaded with."""

    def train(self, mode: bool = True) -> FixedBatchNorm:
        """Stay in evaluation mode."""
        return super().train(False)


def fix_batch_norm(model: torch.nn.Module) -> None:
    """Have every BatchNorm1d in ``model`` keep its statistics, in place; names and saved weights stay the same."""
    for module in model.modules():
        if type(module) is torch.nn.BatchNorm1d:
            module.__class__ = FixedBatchNorm
            module.eval()


@dataclass(frozen=True, eq=False)
class NormalizedLogMel:
    """Parakeet's log-mel spectrogram, each bin normalised over the clip, without the frame that is only padding.

    Attributes:
        extractor: The checkpoint's own.
        longest_seconds: What the encoder has positions for.
    """

    extractor: ParakeetFeatureExtractor
    longest_seconds: float = float("inf")

    @property
    def feature_size(self) -> int:
        """Mel bins: 80, or 128 for 0.6b-v2 and later."""
        return int(self.extractor.feature_size)

    @property
    def frames_per_second(self) -> float:
        """100 for every published Parakeet."""
        return float(self.extractor.sampling_rate / self.extractor.hop_length)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the frames (M, F), M = T // hop length."""
        outputs = self.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np")
        frames = outputs["input_features"][0][outputs["attention_mask"][0].astype(bool)]
        if len(frames) < 2:  # a single frame has no variance: the extractor divides by 0
            frames = np.zeros((1, self.feature_size))
        return np.ascontiguousarray(frames, dtype=np.float32)


def load_processor(model: ModelArguments) -> ParakeetProcessor:
    """Load extractor and tokenizer; both of ``config:NAME``'s are the tokenizer's checkpoint's and the shape's.

    Raises:
        UserError: Files are missing or of another kind, or a tokenizer is given for a checkpoint that has its own.
    """
    if is_config_name(model):
        return _processor_of_shape(model)
    if model.tokenizer_name_or_path is not None:
        raise UserError(
            "model.tokenizer_name_or_path: expected none, since a Parakeet's joint network is made for its own "
            f"tokens, found '{model.tokenizer_name_or_path}'. Leave it out."
        )
    with reporting("model.name_or_path", model.name_or_path, "a Parakeet-TDT processor"):
        processor = ParakeetProcessor.from_pretrained(model.name_or_path, revision=revision_of(model))
        _check_blank(processor)
    return processor


def load_config(model: ModelArguments, processor: ParakeetProcessor) -> ParakeetTDTConfig:
    """Return the model's config without its weights; the dropouts are those of the ``model`` section.

    Raises:
        UserError: There is none, or the tokenizer does not fit it.
    """
    if is_config_name(model):
        config = _config_of_shape(model, processor)
    else:
        with reporting("model.name_or_path", model.name_or_path, "a Parakeet-TDT config.json"):
            config = ParakeetTDTConfig.from_dict(config_values(model))
    _check_vocabulary(config, processor)
    if 0 not in config.durations:  # states that no path reaches give transformers' loss gradients that are nan
        raise UserError(
            f"model.name_or_path: expected a Parakeet-TDT whose durations begin with 0, found {config.durations}. "
            "Choose another checkpoint: transformers cannot train this one."
        )
    encoder = cast(ParakeetEncoderConfig, config.encoder_config)
    encoder.dropout = model.dropout
    encoder.attention_dropout = model.attention_dropout
    encoder.activation_dropout = model.activation_dropout
    encoder.layerdrop = model.layerdrop
    return config


def load_model(arguments: Arguments, processor: ParakeetProcessor) -> PreTrainedModel:
    """Load a checkpoint, or build ``config:NAME``; float32 unless ``model.dtype`` says otherwise.

    Raises:
        UserError: There is no such checkpoint, or it is damaged.
    """
    model = arguments.model
    config = load_config(model, processor)
    if is_config_name(model):
        with own_random_state(arguments.experiment.seed, model.name_or_path):
            built = random_weights(ParakeetForTDT, config, model.attn_implementation)
        loaded: Any = finish_random(built, model, UNQUANTISED)
    else:
        loaded = load_weights(ParakeetForTDT, model, config, unquantised=UNQUANTISED)
    fix_batch_norm(loaded)
    # Made of config.json, a generation config would be made anew when it is read.
    loaded.generation_config._from_model_config = None
    loaded.generation_config.decoder_start_token_id = config.blank_token_id
    loaded.generation_config.pad_token_id = config.pad_token_id
    loaded.generation_config.suppress_tokens = duration_places(config)
    return cast(PreTrainedModel, loaded)


def make_encoder(processor: ParakeetProcessor, model_config: PreTrainedConfig, arguments: Arguments) -> ClipEncoder:
    """Make the encoder of rows: the checkpoint's normalised log-mel, and the text's tokens.

    Raises:
        UserError: Extractor and model do not fit, or label smoothing is asked for.
    """
    config, data = cast(ParakeetTDTConfig, model_config), arguments.data
    encoder_config = cast(ParakeetEncoderConfig, config.encoder_config)
    extractor, tokenizer = processor.feature_extractor, processor.tokenizer
    _check_extractor(extractor, encoder_config)
    _check_smoothing(arguments)
    states_a_second = SAMPLE_RATE / extractor.hop_length / encoder_config.subsampling_factor
    return ClipEncoder(
        front_end=NormalizedLogMel(extractor, encoder_config.max_position_embeddings / states_a_second),
        labeller=TransducerLabels(
            tokenizer=tokenizer,
            unknown=tokenizer.unk_token_id,
            encoder_config=encoder_config,
            tokens_a_state=config.max_symbols_per_step,
            text_pipeline=data.text_pipeline,
        ),
        identity=content_of(processor),
        level=data.level,
        trim_silence=data.trim_silence,
        min_seconds=data.min_seconds,
        max_seconds=data.max_seconds,
        store_dtype=arguments.features.store_dtype,
    )


def make_collator(processor: ParakeetProcessor, model: PreTrainedModel) -> TransducerCollator:
    """Make the collator that pads to the batch's longest clip, with an attention mask."""
    padder = LongestPadder(int(processor.feature_extractor.feature_size))
    return TransducerCollator(padder, model.config.blank_token_id, model.config.pad_token_id)


def decode(
    model: PreTrainedModel, processor: ProcessorMixin, batch: Mapping[str, Any], generation: Mapping[str, Any]
) -> list[str]:
    """Write one text a clip, greedily, each step moving on by the duration it predicts.

    Args:
        model: The model, or one with adapters.
        processor: Its processor.
        batch: ``input_features`` (B, M, F) and ``attention_mask`` (B, M), on the model's device and in its dtype.
        generation: Options of ``generate``; ``max_new_tokens`` counts blanks too.

    Raises:
        UserError: ``generate`` refuses an option's value.
    """
    config, writer = model.config, cast(Any, model)
    states = encoder_states(batch["attention_mask"].sum(-1), config.encoder_config)
    most = config.max_symbols_per_step * states  # a clip's own, or a model that stands still writes on with its batch
    options = {"max_new_tokens": int(most.max()), **generation}
    options["suppress_tokens"] = [*duration_places(config), *generation.get("suppress_tokens", [])]
    inputs = {name: batch[name] for name in ("input_features", "attention_mask")}
    with generating(options):
        written = writer.generate(**inputs, **options)
    tokens, starts = written.sequences[:, 1:], (written.durations.cumsum(-1) - written.durations)[:, 1:]
    steps = torch.arange(tokens.shape[1], device=tokens.device)
    said = starts.lt(states[:, None]) & steps.lt(most[:, None])
    said &= tokens.ne(config.blank_token_id) & tokens.ne(config.pad_token_id)
    lists = [row[kept].tolist() for row, kept in zip(tokens, said, strict=True)]
    tokenizer: Any = processor.tokenizer
    return [tokenizer.decode(ids, skip_special_tokens=True, group_tokens=False).strip() for ids in lists]


def duration_places(config: PreTrainedConfig) -> list[int]:
    """Return where durations stand behind the tokens in the joint network's output."""
    return list(range(config.vocab_size, config.vocab_size + len(config.durations)))


def check_saved(folder: Path, model: PreTrainedModel) -> None:
    """See that a saved model starts from the same token as the one in memory.

    Raises:
        ValueError: Something was lost on the way.
    """
    saved, ours = GenerationConfig.from_pretrained(folder).to_dict(), model.generation_config.to_dict()
    lost = [name for name in KEPT_IN_CHECKPOINTS if saved.get(name) != ours.get(name)]
    if lost:
        found = "; ".join(f"{name} is {saved.get(name)}, was {ours.get(name)}" for name in lost)
        raise ValueError(f"generation_config.json in {folder} does not hold what was trained: {found}")


def _processor_of_shape(model: ModelArguments) -> ParakeetProcessor:
    if model.tokenizer_name_or_path is None:
        raise UserError(
            f"model.tokenizer_name_or_path: expected a Parakeet-TDT tokenizer (a folder or a Hub id), since "
            f"{model.name_or_path} has none of its own, found nothing. Give one, such as nvidia/parakeet-tdt-0.6b-v3."
        )
    shape = SHAPES[model.name_or_path.removeprefix(CONFIG_PREFIX)]
    with reporting("model.tokenizer_name_or_path", model.tokenizer_name_or_path, "a Parakeet-TDT tokenizer"):
        tokenizer = ParakeetTokenizer.from_pretrained(model.tokenizer_name_or_path)
        extractor = ParakeetFeatureExtractor(feature_size=shape["num_mel_bins"])
        processor = ParakeetProcessor(extractor, tokenizer, decoder_type="tdt")
        _check_blank(processor)
    return processor


def _config_of_shape(model: ModelArguments, processor: ParakeetProcessor) -> ParakeetTDTConfig:
    shape = SHAPES[model.name_or_path.removeprefix(CONFIG_PREFIX)]
    vocabulary = processor.tokenizer.get_vocab()
    return ParakeetTDTConfig(
        vocab_size=max(vocabulary.values()) + 1,
        blank_token_id=vocabulary[processor.blank_token],
        pad_token_id=processor.tokenizer.pad_token_id,
        encoder_config=ParakeetEncoderConfig(**shape),
    )


def _check_blank(processor: ParakeetProcessor) -> None:
    if processor.blank_token not in processor.tokenizer.get_vocab() or processor.tokenizer.pad_token_id is None:
        raise ValueError(f"a vocabulary without {processor.blank_token} or without a pad token")


def _check_vocabulary(config: ParakeetTDTConfig, processor: ParakeetProcessor) -> None:
    vocabulary = processor.tokenizer.get_vocab()
    found = (vocabulary[processor.blank_token], max(vocabulary.values()))
    if found[0] != config.blank_token_id or found[1] >= config.vocab_size:
        raise UserError(
            f"model.name_or_path: expected a tokenizer with blank {config.blank_token_id} and ids below "
            f"{config.vocab_size}, as config.json has it, found blank {found[0]} and ids up to {found[1]}. Give the "
            "tokenizer of this checkpoint."
        )


def _check_extractor(extractor: ParakeetFeatureExtractor, config: ParakeetEncoderConfig) -> None:
    found = (extractor.feature_size, extractor.sampling_rate)
    if found != (config.num_mel_bins, SAMPLE_RATE):
        raise UserError(
            f"model.name_or_path: expected an extractor of (mel bins, Hz) {(config.num_mel_bins, SAMPLE_RATE)}, as "
            f"config.json has it, found {found}. Copy processor_config.json from the checkpoint this one was made from."
        )


def _check_smoothing(arguments: Arguments) -> None:
    smoothing = arguments.training.get("label_smoothing_factor", 0)
    if smoothing:
        raise UserError(
            f"training.label_smoothing_factor: expected 0, since a transducer's loss has no single right token to take "
            f"from, found {smoothing}. Remove it."
        )


FAMILY = ModelFamily(
    name="parakeet_tdt",
    recipe="finetune_seq2seq",
    model_types=("parakeet_tdt",),
    config_names=tuple(SHAPES),
    load_processor=lambda arguments, train: load_processor(arguments.model),
    load_config=lambda arguments, processor: load_config(arguments.model, processor),
    load_model=load_model,
    build=ParakeetForTDT,
    make_encoder=make_encoder,
    make_collator=make_collator,
    decode=decode,
    decoding_options=generation_options,
    check_decoding=check_generation,
    check_saved=check_saved,
    notes=lambda arguments, processor: [],
    loss=TDT,
    head="joint.head",
    lora_targets=("q_proj", "v_proj"),
    freezable={
        "encoder": ("encoder.*",),
        "feature_encoder": ("encoder.subsampling.*",),
        "encoder_layers": ("encoder.layers.*",),
        "encoder_self_attention": ("encoder.layers.*.self_attn*", "encoder.layers.*.norm_self_att*"),
        "encoder_feed_forward": ("encoder.layers.*feed_forward*",),
        "encoder_convolution": ("encoder.layers.*.conv.*", "encoder.layers.*.norm_conv.*"),
        "decoder": ("decoder.*",),
        "embeddings": ("decoder.embedding.*",),
        "joint": ("encoder_projector.*", "joint.*"),
        "head": ("joint.head.*",),
        "layer_norms": ("encoder.layers.*.norm*",),
    },
    encoder_layers_prefix="encoder.layers",
)
