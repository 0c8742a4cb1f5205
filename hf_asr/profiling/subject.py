"""What is profiled: a checkpoint, or an architecture by its name alone with random weights and token ids for text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.features.extract import FrontEnd, LogMel, OneClip
from hf_asr.features.positions import WindowChoice
from hf_asr.models import get_family
from hf_asr.models.checkpoints import CONFIG_PREFIX, is_config_name, own_random_state, random_weights
from hf_asr.models.ctc_processor import make_front_end
from hf_asr.models.family import ModelFamily, collator_for
from hf_asr.models.speech2text import Fbank
from hf_asr.models.whisper_thin import thinned
from hf_asr.profiling.architectures import StandInProcessor, published
from hf_asr.profiling.counted import shapes_only
from hf_asr.utterance import Seconds

# Families whose stages can be run one by one: an encoder, and a decoder with its cache or a CTC head.
STAGED = ("whisper", "speech2text", "moonshine", "ctc")
# Windows whose cost is that of one: what no Whisper hears beyond.
WINDOWED = ("whisper",)
# What configs call the number of a decoder's positions.
POSITIONS = ("max_target_positions", "max_position_embeddings")


@dataclass(frozen=True)
class Subject:
    """A model before it is loaded.

    Attributes:
        name: As it was given: an id, a folder, or ``config:NAME``.
        family: Its family.
        arguments: What it is loaded with.
        config: Its config.
        processor: Extractor and tokenizer; with a stand-in for the tokenizer where there is none.
        front_end: From samples to its encoder's input.
        writes: Whether there is a tokenizer, so that token ids become text.
    """

    name: str
    family: ModelFamily
    arguments: Arguments
    config: PreTrainedConfig
    processor: Any
    front_end: FrontEnd
    writes: bool

    @property
    def longest_seconds(self) -> Seconds:
        """The encoder's window, or the longest clip its positions allow."""
        own = self.front_end.longest_seconds
        return min(own, LONGEST.get(self.family.name, own))

    @property
    def has_decoder(self) -> bool:
        """Whether it writes token by token."""
        return bool(self.config.is_encoder_decoder)

    @property
    def most_tokens(self) -> int | None:
        """Tokens that its decoder has positions for; None without a decoder, or without a bound."""
        named = self.config.to_dict() if self.has_decoder else {}
        return next((named[name] for name in POSITIONS if name in named), None)

    @property
    def long_form(self) -> bool:
        """Whether longer clips are taken window by window, as Whisper's are."""
        return self.family.name in WINDOWED

    def architecture(self) -> type[Any]:
        """Return the stock class."""
        return type(self.shapes)

    @cached_property
    def shapes(self) -> Any:
        """The architecture without weights, on the meta device."""
        return shapes_only(self.family.build, self.config)

    def build(self, attention: str = "sdpa") -> Callable[[PreTrainedConfig], Any]:
        """Return what builds the architecture with an attention implementation, where it has that one."""
        return _Builder(self.architecture(), self.attention(attention))

    def attention(self, wanted: str) -> str:
        """Return the attention that is used: eager where the architecture has no SDPA."""
        return wanted if self.architecture()._supports_sdpa else "eager"

    def load(self, attention: str = "sdpa", window: str = "full", quantization: str = "none") -> Any:
        """Load the model on the CPU in float32, or in 8 bits.

        Raises:
            UserError: There is no such checkpoint, or it is damaged.
        """
        model = replace(
            self.arguments.model,
            attn_implementation=self.attention(attention),
            quantization=quantization,
            window=window,
        )
        if self.writes:
            return self.family.load_model(replace(self.arguments, model=model), self.processor).eval()
        with own_random_state(self.arguments.experiment.seed, self.name):
            built = random_weights(self.architecture(), self.config, model.attn_implementation)
        return (thinned(built) if window != "full" else built).eval()

    def inputs(self, model: Any, clips: Sequence[np.ndarray], window: str = "full") -> dict[str, torch.Tensor]:
        """Compute a batch's features on the CPU: what the encoder takes, padded.

        Args:
            model: The loaded model (or one of shapes alone).
            clips: Samples (T,) of each clip, at most :attr:`longest_seconds` long.
            window: ``full`` or ``thinned``.
        """
        rows = [self.row(str(place), samples) for place, samples in enumerate(clips)]
        batch = collator_for(self.family, self.processor, model, WindowChoice(window))(rows)
        return {name: batch[name] for name in ENCODER_INPUTS if name in batch}

    def row(self, id: str, samples: np.ndarray) -> dict[str, Any]:
        """Return a row as collators take it; its labels are looked at by no encoder."""
        row: dict[str, Any] = {"id": id, "text": "", "speaker": "", "label": "", "labels": [5, 6], "error": ""}
        return {**row, "duration": len(samples) / SAMPLE_RATE, "input_features": self.front_end(samples)}


ENCODER_INPUTS = ("input_features", "input_values", "attention_mask", "positions", "log_weights")
# Moonshine's decoder has 194 positions, and its authors give it 30 s at most; trained on clips of at most 30 s.
LONGEST = {"moonshine": 30.0}


@dataclass(frozen=True)
class _Builder:
    architecture: Any
    attention: str

    def __call__(self, config: PreTrainedConfig) -> Any:
        """Build the architecture with the attention asked for, in torch's default type and not the config's."""
        dtype = torch.get_default_dtype()
        return self.architecture._from_config(config, attn_implementation=self.attention, dtype=dtype)


def find_subject(name: str, *, language: str | None = None, tokenizer: str | None = None, seed: int = 42) -> Subject:
    """Find a model's family, config and extractor; its weights are left where they are.

    Args:
        name: Hub id, folder, or ``config:NAME``.
        language: Language of the speech, for multilingual checkpoints.
        tokenizer: Tokenizer for ``config:NAME``; without one its text is token ids.
        seed: Seed of random weights.

    Raises:
        UserError: There is no such model, or its family's stages cannot be taken apart.
    """
    model = ModelArguments(name_or_path=name, tokenizer_name_or_path=tokenizer)
    arguments = Arguments(ExperimentArguments("profile", seed=seed), model, DataArguments(language=language))
    family = get_family(model)
    if family.name not in STAGED:
        raise UserError(
            f"--model: expected a model of {', '.join(STAGED)}, whose stages can be timed apart, found a {family.name} "
            f"in {name}. Profile another, or time it whole with hf-asr evaluate (its RTFx)."
        )
    if is_config_name(model) and tokenizer is None:
        found = published(family, name.removeprefix(CONFIG_PREFIX))
        assert found is not None, family.name
        config, processor = found
        return Subject(name, family, arguments, config, processor, front_end_of(family, config, processor), False)
    try:
        processor = family.load_processor(arguments, None)
    except UserError as error:
        raise error if tokenizer is None else UserError(f"--tokenizer {tokenizer}: {error}") from error
    config = family.load_config(arguments, processor)
    encoder = family.make_encoder(processor, config, arguments)
    return Subject(name, family, arguments, config, processor, encoder.front_end, True)


def front_end_of(family: ModelFamily, config: Any, processor: StandInProcessor) -> FrontEnd:
    """Return the front end of an architecture that has no tokenizer, as its family makes it."""
    extractor = processor.feature_extractor
    if family.name == "whisper":
        return LogMel(extractor)
    if family.name == "speech2text":
        return Fbank(extractor, config.max_source_positions / 100)
    if family.name == "moonshine":
        return OneClip(extractor, "input_values", feature_size=1, frames_per_second=float(SAMPLE_RATE))
    return make_front_end(extractor)
