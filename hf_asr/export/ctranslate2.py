"""Whisper for CTranslate2, laid out as faster-whisper reads it; int8 and float16 weights.

CTranslate2's converter reads a transformers folder: the stock model goes through a temporary one. transformers 5 keeps
the extractor's settings inside processor_config.json, faster-whisper looks for preprocessor_config.json: it is written.
CTranslate2 knows no additive mask in the encoder, so the full window is computed, whatever a run was trained with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from hf_asr.export.decoding import SHARED, Rules, check_options, rules_of
from hf_asr.export.format import Format, not_served
from hf_asr.export.source import Source

TYPES = ("float16", "float32", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16")
# Read by faster-whisper, beside model.bin, config.json and vocabulary.json of the converter.
TOKENIZER = "tokenizer.json"
OPTIONS = (*(name for name in SHARED if name != "begin_suppress_tokens"), "length_penalty")


def check(family: str, model_type: str) -> None:
    """See that CTranslate2 can hold a model.

    Raises:
        UserError: It is no Whisper that writes text.
    """
    if family != "whisper":
        instead = "Use --format merged, or evaluate it as it is."
        if family in ("ctc", "speech2text"):
            instead = "Use --format onnx."
        raise not_served("ctranslate2", family, "a Whisper that writes text", instead)


def write(model: PreTrainedModel, source: Source, folder: Path, quantization: str) -> None:
    """Convert a Whisper.

    Args:
        model: From :func:`hf_asr.export.source.stock_model`.
        source: Where it comes from.
        folder: A folder that exists.
        quantization: Type of the stored weights, one of :data:`TYPES`.
    """
    from ctranslate2.converters import TransformersConverter

    suppress_known(model)
    with TemporaryDirectory(dir=folder.parent) as temporary:
        model.save_pretrained(temporary)
        source.processor.save_pretrained(temporary)
        converter = TransformersConverter(temporary, copy_files=[TOKENIZER])
        converter.convert(str(folder), quantization=quantization, force=True)
    source.processor.feature_extractor.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


class Writer:
    """A converted Whisper in the place of a transformers one, as far as the family's ``decode`` asks.

    Attributes:
        config: The original's config.
        generation_config: The original's generation config.
        model: CTranslate2's own.
        compute_type: What it computes in on this machine.
    """

    def __init__(self, folder: Path, config: PreTrainedConfig, generation_config: GenerationConfig) -> None:
        import ctranslate2

        # A warning for every type that this CPU has not and float32 stands for; compute_type tells it.
        ctranslate2.set_log_level(logging.ERROR)
        self.config = config
        self.generation_config = generation_config
        self._storage = ctranslate2.StorageView
        self.model = ctranslate2.models.Whisper(str(folder), device="cpu", intra_threads=torch.get_num_threads())
        self.compute_type = self.model.compute_type

    def generate(self, input_features: torch.Tensor, attention_mask: torch.Tensor, **options: Any) -> list[list[int]]:
        """Write the ids of each clip, without prompt and end.

        Args:
            input_features: (B, F, M), the whole window.
            attention_mask: All ones; Whisper has none.
            options: Of :data:`OPTIONS`.
        """
        rules = rules_of(self.config, self.generation_config, options)
        features = np.ascontiguousarray(input_features.float().cpu().numpy())
        written = self.model.generate(
            self._storage.from_array(features),
            [list(rules.prompt)] * len(features),
            **told(rules, self.config.vocab_size),
        )
        return [result.sequences_ids[0] for result in written]


def suppress_known(model: PreTrainedModel) -> None:
    """Leave ids beyond the vocabulary out of what a model's generation config suppresses, in place.

    transformers passes over them; CTranslate2 writes to their places in memory, and crashes.
    """
    generation, size = model.generation_config, model.config.vocab_size
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        setattr(generation, name, known_ids(generation.to_dict().get(name), size))


def known_ids(tokens: Sequence[int] | None, size: int) -> list[int] | None:
    """Return the ids below ``size``; None where there are none."""
    return [token for token in tokens or () if 0 <= token < size] or None


def told(rules: Rules, size: int) -> dict[str, Any]:
    """Return CTranslate2's names of transformers' options.

    Of its ``max_length`` m it writes min(m / 2, m - p + 1) tokens behind a prompt of p (tried: 4.8.5, m of 4 to 250).

    Args:
        rules: What is asked for.
        size: Entries of the vocabulary.
    """
    generation, prompt = rules.generation, len(rules.prompt)
    return {
        "beam_size": generation.num_beams or 1,
        "length_penalty": 1.0 if generation.length_penalty is None else generation.length_penalty,
        "repetition_penalty": generation.repetition_penalty or 1.0,
        "no_repeat_ngram_size": generation.no_repeat_ngram_size or 0,
        "max_length": max(2 * rules.new_tokens, rules.new_tokens + prompt - 1),
        "suppress_blank": bool(generation.begin_suppress_tokens),
        "suppress_tokens": known_ids(generation.suppress_tokens, size),
    }


def open_exported(folder: Path, source: Source) -> Writer:
    """Load what was written, on the CPU."""
    return Writer(folder, source.model.config, source.model.generation_config)


def computed(writer: Writer) -> str:
    """Return the type that CTranslate2 computes in."""
    return str(writer.compute_type)


def check_decoding(options: dict[str, Any]) -> None:
    """See that CTranslate2 can decode as asked.

    Raises:
        UserError: It cannot.
    """
    check_options(options, OPTIONS, "CTranslate2")


FORMAT = Format(
    name="ctranslate2",
    quantizations=TYPES,
    packages=("ctranslate2",),
    runtime="ctranslate2",
    check=check,
    write=write,
    open=open_exported,
    computed=computed,
    check_decoding=check_decoding,
)
