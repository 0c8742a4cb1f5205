"""Speech2Text: fairseq's S2T models for one language, for several, or for one with the tokenizer of others.

The fbank front end (80 mel bins, 10 ms, each clip normalised by its own mean and deviation) stays whatever the
tokenizer is. The decoder starts with the end token, as fairseq's do; where the tokenizer has language codes the
language comes next, in the labels as in ``generation_config.forced_bos_token_id``.

Padding: the encoder masks padded frames, but its second convolution sees the first one's bias as the neighbour of a
clip's last frame, so logits move a little (at random weights by some 3e-5 of their size) beside a longer clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Speech2TextFeatureExtractor,
    Speech2TextForConditionalGeneration,
    Speech2TextTokenizer,
)

from hf_asr.config.arguments import Arguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.features.collate import LongestPadder, Seq2SeqCollator
from hf_asr.features.extract import ClipEncoder, TokenLabels
from hf_asr.models.checkpoints import (
    CONFIG_PREFIX,
    finish_random,
    is_config_name,
    load_weights,
    own_random_state,
    random_weights,
)
from hf_asr.models.family import ModelFamily
from hf_asr.models.generating import check_generation, check_kept, generating, generation_options
from hf_asr.models.greedy import leaving
from hf_asr.models.losses import TOKENS
from hf_asr.models.speech2text_processor import (
    SHAPES,
    check_extractor,
    checkpoint_config,
    content_of,
    described_swap,
    label_prefix,
    load_config,
    load_processor,
    set_special_ids,
    swapped_vocabulary,
    vocabulary_size,
)
from hf_asr.models.speech2text_vocabulary import fit_vocabulary, must_train

# What must be the same after save_pretrained and from_pretrained for a model to decode as it was trained.
KEPT_IN_CHECKPOINTS = (
    "decoder_start_token_id",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "forced_bos_token_id",
    "max_length",
    "num_beams",
)
FRAMES_PER_SECOND = 100
# Kaldi's window of 25 ms, the shortest clip that has a frame.
WINDOW = 400
# As the published checkpoints have it.
MAX_LENGTH = 200
# A transcript of which the tokenizer does not know this share of pieces is in letters that it has not; sentencepiece
# makes one unknown piece of a whole word.
UNKNOWN_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Fbank:
    """Speech2Text's log mel filter banks, each bin normalised over the clip.

    Attributes:
        extractor: The checkpoint's own.
        longest_seconds: Frames that the encoder has positions for, in seconds.
    """

    extractor: Speech2TextFeatureExtractor
    longest_seconds: float

    @property
    def feature_size(self) -> int:
        """Mel bins."""
        return int(self.extractor.num_mel_bins)

    @property
    def frames_per_second(self) -> float:
        """One every 10 ms."""
        return float(FRAMES_PER_SECOND)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return (M, F) of a clip; a bin that never changes, as in digital silence, is 0 and not 0 / 0."""
        whole = np.pad(samples, (0, max(0, WINDOW - len(samples))))
        with np.errstate(invalid="ignore", divide="ignore"):
            outputs = self.extractor(whole, sampling_rate=SAMPLE_RATE, return_tensors="np")
        return np.nan_to_num(np.asarray(outputs["input_features"][0], dtype=np.float32), posinf=0.0, neginf=0.0)


@dataclass(frozen=True, eq=False)
class SentencePieceLabels(TokenLabels):
    """Labels of a sentencepiece tokenizer, whose vocabulary may lack letters and whose case may be fixed.

    Attributes:
        unknown: Id of a piece that the tokenizer does not know.
        lower_case: Whether it was made of text in lower case; transformers 5 does not lower it any more.
    """

    unknown: int = 3
    lower_case: bool = False

    def encode(self, text: str) -> list[int]:
        """Return the label ids of a transcript, in the case that the vocabulary is in."""
        return super().encode(text.lower() if self.lower_case else text)

    def problem(self, row: Mapping[str, Any], labels: Sequence[Any], frames: int) -> str:
        """Tell when the decoder has too few positions, or the tokenizer cannot spell the transcript."""
        unknown, written = list(labels).count(self.unknown), len(labels) - len(self.prefix) - 1
        if written and unknown >= UNKNOWN_SHARE * written:
            return f"unknown_letters: the tokenizer does not know {unknown} of {written} pieces"
        return super().problem(row, labels, frames)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the labels depend on."""
        return super().fingerprint() | {"unknown": self.unknown, "lower_case": self.lower_case}


def load_model(arguments: Arguments, processor: ProcessorMixin) -> PreTrainedModel:
    """Load a checkpoint, or build ``config:NAME``, with the tokenizer's vocabulary.

    Raises:
        UserError: There is no such checkpoint, it is damaged, or tokenizer and checkpoint do not fit.
    """
    model, tokenizer = arguments.model, processor.tokenizer
    loaded = _random(arguments, processor) if is_config_name(model) else _pretrained(model, processor)
    set_special_ids(loaded.config, tokenizer)
    configure_generation(loaded, tokenizer)
    return loaded


def configure_generation(model: PreTrainedModel, tokenizer: Speech2TextTokenizer) -> None:
    """Write the tokenizer's special ids and language into a model's generation config; in place.

    Beam size and longest output stay the checkpoint's (published ones have 5 beams and 200 tokens).
    """
    generation = model.generation_config
    # Where a checkpoint has no generation_config.json, one is made of config.json and marked so; with the mark it is
    # made of config.json again when it is read, and the language is lost.
    generation._from_model_config = None
    prefix = label_prefix(tokenizer)
    chosen = {
        "decoder_start_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "forced_bos_token_id": prefix[0] if prefix else None,
    }
    if generation.to_dict().get("max_length") is None:
        chosen["max_length"] = min(MAX_LENGTH, model.config.max_target_positions)
    for name, value in chosen.items():
        setattr(generation, name, value)


def make_encoder(processor: ProcessorMixin, model_config: PreTrainedConfig, arguments: Arguments) -> ClipEncoder:
    """Make the encoder of rows: the checkpoint's fbank, and labels without the start token.

    Raises:
        UserError: Extractor and model do not fit.
    """
    extractor, tokenizer, data = processor.feature_extractor, processor.tokenizer, arguments.data
    check_extractor(extractor, model_config)
    labeller = SentencePieceLabels(
        tokenizer=tokenizer,
        prefix=label_prefix(tokenizer),
        end_token=tokenizer.eos_token_id,
        max_tokens=model_config.max_target_positions,
        text_pipeline=data.text_pipeline,
        unknown=tokenizer.unk_token_id,
        lower_case=tokenizer.do_lower_case,
    )
    return ClipEncoder(
        front_end=Fbank(extractor, model_config.max_source_positions / FRAMES_PER_SECOND),
        labeller=labeller,
        identity=content_of(processor),
        level=data.level,
        trim_silence=data.trim_silence,
        min_seconds=data.min_seconds,
        max_seconds=data.max_seconds,
        store_dtype=arguments.features.store_dtype,
    )


def make_collator(processor: ProcessorMixin, model: PreTrainedModel) -> Seq2SeqCollator:
    """Make the collator that pads with zeros, the mean of every bin, and masks the padding."""
    return Seq2SeqCollator(
        padder=LongestPadder(feature_size=processor.feature_extractor.num_mel_bins),
        start_token=model.config.decoder_start_token_id,
        pad_token=model.config.pad_token_id,
        most_labels=model.config.max_target_positions,
    )


def decode(
    model: PreTrainedModel, processor: ProcessorMixin, batch: Mapping[str, Any], generation: Mapping[str, Any]
) -> list[str]:
    """Write one text a clip with the model's own ``generate``.

    Args:
        model: The model, or one with adapters.
        processor: Its processor.
        batch: ``input_features`` (B, M, F) and ``attention_mask`` (B, M), on the model's device.
        generation: Options of ``generate``.

    Raises:
        UserError: ``generate`` refuses an option's value.
    """
    writer: Any = model
    options = {"use_cache": True, **generation}  # training with checkpointing leaves config.use_cache off
    with generating(options):
        inputs = {name: batch[name] for name in ("input_features", "attention_mask")}
        tokens = writer.generate(**inputs, **options, **leaving(writer, options))
    return [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]


def _notes(arguments: Arguments, processor: ProcessorMixin) -> list[str]:
    swap = described_swap(arguments, processor)
    return [swap] if swap else []


def _pretrained(model: ModelArguments, processor: ProcessorMixin) -> Any:
    tokenizer = processor.tokenizer
    config, own = checkpoint_config(model, tokenizer), swapped_vocabulary(model, tokenizer)
    if own is None and vocabulary_size(tokenizer) > config.vocab_size:
        raise UserError(
            f"model.name_or_path: expected ids below the model's {config.vocab_size} entries, found a tokenizer that "
            f"goes up to {vocabulary_size(tokenizer) - 1}. Copy the tokenizer of this checkpoint into its folder."
        )
    loaded = load_weights(Speech2TextForConditionalGeneration, _eager(model), config)
    if own is not None:
        fit_vocabulary(loaded, own, tokenizer.get_vocab())
    return loaded


def _random(arguments: Arguments, processor: ProcessorMixin) -> Any:
    model = arguments.model
    name = model.name_or_path.removeprefix(CONFIG_PREFIX)
    with own_random_state(arguments.experiment.seed, name):
        built = random_weights(
            Speech2TextForConditionalGeneration, load_config(model, processor), _eager(model).attn_implementation
        )
    return finish_random(built, _eager(model))


def _eager(model: ModelArguments) -> ModelArguments:
    """Return the section with the one attention that transformers has for Speech2Text in place of the default."""
    return replace(model, attn_implementation="eager") if model.attn_implementation == "sdpa" else model


FAMILY = ModelFamily(
    name="speech2text",
    recipe="finetune_seq2seq",
    model_types=("speech_to_text",),
    config_names=tuple(SHAPES),
    load_processor=lambda arguments, train: load_processor(arguments.model, arguments.data),
    load_config=lambda arguments, processor: load_config(arguments.model, processor),
    load_model=load_model,
    build=Speech2TextForConditionalGeneration,
    make_encoder=make_encoder,
    make_collator=make_collator,
    decode=decode,
    decoding_options=generation_options,
    check_decoding=check_generation,
    check_saved=lambda folder, model: check_kept(folder, model, KEPT_IN_CHECKPOINTS),
    notes=_notes,
    loss=TOKENS,
    head="lm_head",
    lora_targets=("q_proj", "v_proj"),
    freezable={
        "encoder": ("model.encoder.*",),
        "feature_encoder": ("model.encoder.conv.*",),
        "encoder_layers": ("model.encoder.layers.*",),
        "encoder_self_attention": ("model.encoder.layers.*.self_attn*",),
        "encoder_feed_forward": ("model.encoder.layers.*.fc?.*",),
        "decoder": ("model.decoder.*",),
        "decoder_layers": ("model.decoder.layers.*",),
        "decoder_self_attention": ("model.decoder.layers.*.self_attn*",),
        "cross_attention": ("model.decoder.layers.*.encoder_attn*",),
        "decoder_feed_forward": ("model.decoder.layers.*.fc?.*",),
        "embeddings": ("model.decoder.embed_tokens.*",),
        # lm_head is tied to the token embedding: one parameter, named after the embedding.
        "head": ("model.decoder.embed_tokens.*",),
        "layer_norms": ("*layer_norm.*",),
    },
    encoder_layers_prefix="model.encoder.layers",
    encoder_inputs=("input_features", "attention_mask"),
    set_language=lambda model, processor, arguments: configure_generation(model, processor.tokenizer),
    must_train=must_train,
)
