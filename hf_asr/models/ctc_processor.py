"""What is read of a CTC model before its weights: vocabulary, features, config, and which rows of a head are kept."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2CTCTokenizer,
)

from hf_asr.config.arguments import Arguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.extract import FrontEnd, OneClip
from hf_asr.models import ctc_vocabulary
from hf_asr.models.checkpoints import CONFIG_PREFIX, config_values, is_config_name, reporting, revision_of
from hf_asr.models.ctc_configs import KINDS, Kind, architecture, kind_of, new_extractor
from hf_asr.models.parakeet import NormalizedLogMel
from hf_asr.models.whisper_processor import content_of

# Settings of a config that are dropouts, by the key of the model section that sets them.
DROPOUTS: Mapping[str, tuple[str, ...]] = {
    "dropout": (
        "dropout",
        "dropout_positions",
        "hidden_dropout",
        "feat_proj_dropout",
        "final_dropout",
        "conformer_conv_dropout",
    ),
    "attention_dropout": ("attention_dropout",),
    "activation_dropout": ("activation_dropout",),
    "layerdrop": ("layerdrop",),
}


def kind_of_model(model: ModelArguments) -> Kind:
    """Return what belongs to the model's type.

    Raises:
        UserError: It has no CTC head that we know.
    """
    if is_config_name(model):
        return kind_of(model.name_or_path.removeprefix(CONFIG_PREFIX))
    found = config_values(model)["model_type"]
    if found not in KINDS:
        raise UserError(
            f"model.name_or_path: expected a model for CTC ({', '.join(KINDS)}), found model_type '{found}'. Choose "
            "another checkpoint, or leave model.family out."
        )
    return KINDS[found]


def load_processor(arguments: Arguments, train: Dataset | Stream | None) -> ProcessorMixin:
    """Load or build the feature extractor and the vocabulary.

    Args:
        arguments: The whole configuration.
        train: Rows of the training split; their texts are looked at only where ``ctc.vocabulary`` needs them.

    Raises:
        UserError: Files are missing, there is no vocabulary, or a setting has no meaning for CTC.
    """
    check_settings(arguments)
    kind = kind_of_model(arguments.model)
    tokenizer = choose_tokenizer(arguments, train)
    if is_config_name(arguments.model):
        extractor = new_extractor(read_config(arguments.model))
    else:
        name = arguments.model.name_or_path
        with reporting("model.name_or_path", name, "a feature extractor (preprocessor_config.json)"):
            extractor = kind.extractor.from_pretrained(name, revision=revision_of(arguments.model))
    processor: ProcessorMixin = kind.processor(extractor, tokenizer)
    return processor


def check_settings(arguments: Arguments) -> None:
    """See that no setting is given that CTC has no use for.

    Raises:
        UserError: One is.
    """
    if arguments.evaluation.generation:
        raise UserError(
            "evaluation.generation: a CTC model reads its text off its frames and generates nothing; found "
            f"{', '.join(arguments.evaluation.generation)}. Use ctc.beam, ctc.lm, ctc.lm_weight and ctc.word_score."
        )
    if arguments.training.get("label_smoothing_factor"):
        raise UserError(
            "training.label_smoothing_factor: CTC has no label a frame to smooth, found "
            f"{arguments.training['label_smoothing_factor']}. Remove it."
        )
    if arguments.ctc.lm and arguments.ctc.beam == 1:
        raise UserError(f"ctc.lm: expected ctc.beam above 1 beside it, such as 50, found 1 and {arguments.ctc.lm}.")


def choose_tokenizer(arguments: Arguments, train: Dataset | Stream | None) -> PreTrainedTokenizerBase:
    """Return the tokenizer that ``ctc.vocabulary`` asks for.

    Raises:
        UserError: It cannot be had.
    """
    wanted, language = arguments.ctc.vocabulary, arguments.model.adapter_language
    if wanted not in ctc_vocabulary.KINDS:
        return ctc_vocabulary.make_tokenizer(ctc_vocabulary.read_vocabulary(wanted), language)
    own = None if wanted == "train" else own_tokenizer(arguments.model)
    if wanted == "auto":
        wanted = "checkpoint" if own is not None else "train"
    pipeline = arguments.data.text_pipeline
    if wanted == "train":
        name = arguments.model.name_or_path
        texts = ctc_vocabulary.texts_of(train, f"{name} brings no characters for its head")
        vocabulary = ctc_vocabulary.new_vocabulary(ctc_vocabulary.characters_of(texts, pipeline))
        return ctc_vocabulary.make_tokenizer(vocabulary, language)
    if own is None:
        raise UserError(
            f"ctc.vocabulary: {wanted} expects a checkpoint with a CTC head and its characters, found none in "
            f"{arguments.model.name_or_path}. Use train, or give the path of a vocab.json."
        )
    if wanted == "extend":
        texts = ctc_vocabulary.texts_of(train, "extend adds their characters")
        missing = ctc_vocabulary.missing_characters(own, texts, pipeline) if _spells(own) else [""]
        return ctc_vocabulary.extended(own, missing) if missing else own
    if isinstance(train, Dataset) and _spells(own):
        ctc_vocabulary.tell_missing(own, ctc_vocabulary.texts_of(train, ""), pipeline)
    return own


def own_tokenizer(model: ModelArguments) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that belongs to the checkpoint's CTC head; None where there is no such head.

    A multilingual one is set to ``model.adapter_language``, and None where it lacks that language.

    Raises:
        UserError: The checkpoint has a CTC head and no characters for it.
    """
    language = model.adapter_language
    if model.tokenizer_name_or_path is not None:
        return ctc_vocabulary.load_tokenizer(model.tokenizer_name_or_path, "main", language)
    if is_config_name(model) or not has_head(model):
        return None
    try:
        tokenizer = ctc_vocabulary.load_tokenizer(model.name_or_path, revision_of(model), language)
    except UserError as error:
        raise UserError(f"{error} Or set ctc.vocabulary=train for a new head.") from error
    if language is not None and language not in ctc_vocabulary.languages_of(tokenizer):
        return None
    return tokenizer


def has_head(model: ModelArguments) -> bool:
    """Tell whether a checkpoint was saved with a CTC head, and not as a pretrained encoder."""
    return any(str(name).endswith("ForCTC") for name in config_values(model).get("architectures") or ())


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return token to id, without what a tokenizer adds of its own behind the head's rows."""
    return dict(tokenizer.encoder) if _spells(tokenizer) else dict(tokenizer.get_vocab())


@dataclass(frozen=True)
class HeadPlan:
    """What becomes of a checkpoint's head.

    Attributes:
        size: Rows of the head that is wanted.
        kept: Whether it is the checkpoint's own, as it is.
        rows: New id to the checkpoint's id, of tokens whose rows go on; the others are new.
    """

    size: int
    kept: bool
    rows: Mapping[int, int]


def plan_head(arguments: Arguments, processor: ProcessorMixin) -> HeadPlan:
    """Compare the vocabulary that is wanted with the checkpoint's own."""
    wanted = vocabulary_of(processor.tokenizer)
    size = max(wanted.values()) + 1
    # A tokenizer that was given belongs to the head by the user's word, where the sizes agree.
    given = arguments.model.tokenizer_name_or_path is not None and not is_config_name(arguments.model)
    if given and has_head(arguments.model) and read_config(arguments.model).vocab_size == size:
        return HeadPlan(size, True, {})
    own = None if given or is_config_name(arguments.model) else own_tokenizer_or_none(arguments.model)
    if own is None:
        return HeadPlan(size, False, {})
    old = vocabulary_of(own)
    if old == wanted:
        several = arguments.model.adapter_language is not None
        return HeadPlan(size if several else int(read_config(arguments.model).vocab_size), True, {})
    shared = {id: old[token] for token, id in wanted.items() if token in old}
    return HeadPlan(size, False, shared if arguments.ctc.vocabulary == "extend" else {})


def own_tokenizer_or_none(model: ModelArguments) -> PreTrainedTokenizerBase | None:
    """Return what :func:`own_tokenizer` does, and None where the head's characters are lost."""
    try:
        return own_tokenizer(model)
    except UserError:
        return None


def load_config(arguments: Arguments, processor: ProcessorMixin) -> PreTrainedConfig:
    """Return the model's config without its weights: its head's size, dropouts and masking as configured.

    Raises:
        UserError: There is none, or it has no language adapters where one is asked for.
    """
    config = read_config(arguments.model)
    configure(config, arguments)
    config.vocab_size = plan_head(arguments, processor).size
    config.pad_token_id = processor.tokenizer.pad_token_id
    return config


def read_config(model: ModelArguments) -> PreTrainedConfig:
    """Return a checkpoint's config, or that of ``config:NAME``, as it is."""
    if is_config_name(model):
        return architecture(model.name_or_path.removeprefix(CONFIG_PREFIX))
    values, kind = config_values(model), kind_of_model(model)
    with reporting("model.name_or_path", model.name_or_path, f"a config.json of {kind.model.__name__}"):
        config: PreTrainedConfig = kind.config.from_dict(values)
        return config


def configure(config: PreTrainedConfig, arguments: Arguments) -> None:
    """Write dropouts, masking and the loss's options into a config, in place.

    Raises:
        UserError: ``model.adapter_language`` is given and the model has no language adapters.
    """
    encoder = config.encoder_config if config.model_type == "parakeet_ctc" else config
    for key, names in DROPOUTS.items():
        for name in names:
            if name in encoder.to_dict():
                setattr(encoder, name, vars(arguments.model)[key])
    config.ctc_zero_infinity = arguments.ctc.zero_infinity
    if "mask_time_prob" in config.to_dict():
        config.mask_time_prob = arguments.ctc.mask_time
        config.mask_feature_prob = arguments.ctc.mask_feature
    elif arguments.ctc.mask_time or arguments.ctc.mask_feature:
        raise UserError("ctc.mask_time: this model masks nothing itself. Remove it, or use augment.spec_augment.")
    language = arguments.model.adapter_language
    if language is not None and config.to_dict().get("adapter_attn_dim") is None:
        raise UserError(
            "model.adapter_language: expected a checkpoint with language adapters (adapter_attn_dim in config.json, as "
            f"MMS has), found none in {arguments.model.name_or_path}, and the language {language}. Remove it."
        )


def make_front_end(extractor: Any) -> FrontEnd:
    """Return what makes an extractor's frames of one clip, none of which is padding."""
    if "input_values" in extractor.model_input_names:
        return OneClip(extractor, "input_values", 1, float(SAMPLE_RATE), options={"return_attention_mask": False})
    if isinstance(extractor, SeamlessM4TFeatureExtractor):
        size = extractor.num_mel_bins * extractor.stride
        # Its frames are pairs of 10-ms frames; without padding to a pair, half a pair at the end is left out, as its
        # mask does.
        return OneClip(extractor, "input_features", size, 100 / extractor.stride, options={"pad_to_multiple_of": None})
    return NormalizedLogMel(extractor)


@dataclass(frozen=True, eq=False)
class StateCount:
    """How many encoder states a clip has, by the model class's own function.

    Attributes:
        config: The model's.
    """

    config: PreTrainedConfig

    def __call__(self, frames: int) -> int:
        """Return the states (S) of ``frames`` samples or spectrogram frames."""
        return int(self.of(torch.tensor([frames]))[0])

    def of(self, lengths: torch.Tensor) -> torch.Tensor:
        """Return the states of several clips, int64 (B,)."""
        model: Any = KINDS[self.config.model_type].model
        # Both functions only read self.config.
        if self.config.model_type == "parakeet_ctc":
            counted = model._get_subsampling_output_length(self, lengths)
        else:
            counted = model._get_feat_extract_output_lengths(self, lengths)
        return torch.as_tensor(counted).to(torch.long).clamp(min=0)


def seconds_per_state(config: PreTrainedConfig, front_end: FrontEnd) -> float:
    """Return the seconds from one encoder state to the next: 0.02 for most, 0.08 for Parakeet."""
    states, frames = StateCount(config), round(1000 * front_end.frames_per_second)
    return 1000 / (states(2 * frames) - states(frames))


def states_needed(labels: Sequence[int]) -> int:
    """Return the states that CTC needs for labels: one each, and a blank between two that are alike."""
    return len(labels) + sum(first == second for first, second in itertools.pairwise(labels))


@dataclass(frozen=True, eq=False)
class CtcLabels:
    """Labels of a CTC head: the transcript's characters, or the blank alone where nothing is said.

    Attributes:
        tokenizer: The head's.
        states: How many states a clip has.
        text_pipeline: Pipeline of :mod:`hf_asr.text` that the label text passes.
    """

    tokenizer: Any
    states: StateCount
    text_pipeline: str = "none"
    dtype: str = "int32"
    writes_text: bool = True

    def __call__(self, row: Mapping[str, Any]) -> list[int]:
        """Return the label ids of a row's transcript."""
        return self.encode(row["text"])

    def encode(self, text: str) -> list[int]:
        """Return the label ids of a transcript; special tokens written out in it are spelt as plain text."""
        spoken = ctc_vocabulary.spoken(text, self.text_pipeline)
        ids = self.tokenizer(spoken, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return list(ids) or [self.tokenizer.pad_token_id]

    def read(self, labels: Sequence[Any]) -> str:
        """Return the labels decoded back; unknown characters are shown."""
        kept = [int(id) for id in labels if id != self.tokenizer.pad_token_id]
        return str(self.tokenizer.decode(kept, group_tokens=False))

    def problem(self, row: Mapping[str, Any], labels: Sequence[Any], frames: int) -> str:
        """Tell when a clip has fewer states than its label needs: no alignment exists, its loss is infinite."""
        needed, there = states_needed(list(labels)), self.states(frames)
        if needed > there:
            return f"label_longer_than_clip: {len(labels)} tokens need {needed} frames of the encoder, it has {there}"
        return ""

    def fingerprint(self) -> dict[str, Any]:
        """Return the pipeline and what counts states; the vocabulary is the encoder's identity."""
        counted = [self.states(frames) for frames in (1_000, 16_000, 16_079)]
        return {"labels": "ctc", "text_pipeline": self.text_pipeline, "states": counted}


def identity_of(processor: ProcessorMixin) -> dict[str, str]:
    """Return hashes that tell this extractor and vocabulary from others, the same after saving and loading."""
    tokenizer = processor.tokenizer
    if not _spells(tokenizer):
        return content_of(processor)
    rules = {"vocabulary": vocabulary_of(tokenizer), "lower_case": tokenizer.do_lower_case}
    return {
        "extractor": _digest(processor.feature_extractor.to_json_string()),
        "tokenizer": _digest(json.dumps(rules, sort_keys=True)),
    }


def _spells(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether a tokenizer's tokens are characters."""
    return isinstance(tokenizer, Wav2Vec2CTCTokenizer)


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
