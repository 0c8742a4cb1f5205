"""Published architectures by name alone: config, extractor and random weights, without a tokenizer or any file.

A recipe needs a tokenizer for ``config:NAME``; a profile needs only token ids, so a stand-in says the two or three
special ids that the configs ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import (
    ParakeetFeatureExtractor,
    PreTrainedConfig,
    Speech2TextFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from hf_asr.models import ctc_configs, moonshine, speech2text_processor, whisper_configs
from hf_asr.models.family import ModelFamily


@dataclass(frozen=True)
class StandInTokenizer:
    """What the architectures ask of a tokenizer: the place of its special tokens, and how many entries it has.

    Attributes:
        vocabulary: Token to id.
        bos_token_id: Start.
        eos_token_id: End.
        pad_token_id: Padding.
    """

    vocabulary: Mapping[str, int]
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.vocabulary)

    def get_vocab(self) -> dict[str, int]:
        """Return the special tokens."""
        return dict(self.vocabulary)


@dataclass(frozen=True)
class StandInProcessor:
    """An extractor, and a tokenizer that cannot write: what collators are made of.

    Attributes:
        feature_extractor: As a published checkpoint has it.
        tokenizer: The stand-in.
    """

    feature_extractor: Any
    tokenizer: StandInTokenizer


# Entries of a character vocabulary of English, such as wav2vec2-base-960h's.
CHARACTERS = 32


def published(family: ModelFamily, name: str) -> tuple[PreTrainedConfig, StandInProcessor] | None:
    """Return config and extractor of a name after ``config:``; None where the family has no way without a tokenizer."""
    maker = MAKERS.get(family.name)
    return None if maker is None else maker(name)


def _whisper(name: str) -> tuple[PreTrainedConfig, StandInProcessor]:
    shape = whisper_configs.SHAPES[name]
    english = shape.vocabulary == whisper_configs.ENGLISH_VOCABULARY
    end = 50_256 if english else 50_257
    tokenizer = StandInTokenizer({whisper_configs.START: end + 1, whisper_configs.END: end}, end + 1, end, end)
    # Only special ids and the number of entries are asked for.
    config = whisper_configs.architecture(name, tokenizer)  # type: ignore[arg-type]
    return config, StandInProcessor(WhisperFeatureExtractor(feature_size=shape.mel_bins), tokenizer)


def _moonshine(name: str) -> tuple[PreTrainedConfig, StandInProcessor]:
    tokenizer = StandInTokenizer({"</s>": 2}, 1, 2, 2)
    config = moonshine.architecture(name, tokenizer)  # type: ignore[arg-type]
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    return config, StandInProcessor(extractor, tokenizer)


def _speech2text(name: str) -> tuple[PreTrainedConfig, StandInProcessor]:
    # The published English checkpoints have 10,000 pieces.
    tokenizer = StandInTokenizer({"</s>": 2, "last": 9_999}, 0, 2, 1)
    config = speech2text_processor.architecture(name, tokenizer)  # type: ignore[arg-type]
    return config, StandInProcessor(Speech2TextFeatureExtractor(), tokenizer)


def _ctc(name: str) -> tuple[PreTrainedConfig, StandInProcessor]:
    config = ctc_configs.architecture(name)
    if config.to_dict().get("vocab_size") is None:  # Wav2Vec2-BERT's class has none of its own
        config.vocab_size = CHARACTERS
    extractor = ctc_configs.new_extractor(config)
    if isinstance(extractor, ParakeetFeatureExtractor):
        extractor = ParakeetFeatureExtractor(feature_size=config.encoder_config.num_mel_bins)
    return config, StandInProcessor(extractor, StandInTokenizer({}, 1, 2, 0))


MAKERS = {"whisper": _whisper, "moonshine": _moonshine, "speech2text": _speech2text, "ctc": _ctc}
