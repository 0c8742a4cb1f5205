"""Every family's models in 8 and 4 bits: from their tiny checkpoint, and from ``config:NAME``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from helpers.tiny_families import TINY, Parts, tensors_of
from torch.testing import assert_close

from hf_asr.errors import UserError
from hf_asr.models import FAMILIES, ctc_configs, moonshine, parakeet, speech2text_processor, whisper_configs

BITS = {"8bit": Linear8bitLt, "4bit": Linear4bit}


def quantised(parts: Parts, bits: str, **model: Any) -> Parts:
    chosen = replace(parts.arguments.model, quantization=bits, compute_dtype="float32", **model)
    return replace(parts, arguments=replace(parts.arguments, model=chosen))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", TINY)
def test_a_checkpoint_is_read_in_fewer_bits(name: str, bits: str, tmp_path: Path) -> None:
    parts = Parts.of(name, tmp_path)
    model = quantised(parts, bits).model()
    modules = dict(model.named_modules())
    assert sum(type(module) is BITS[bits] for module in modules.values()) >= 3
    head = modules[parts.family.head]
    assert not any(isinstance(module, tuple(BITS.values())) for module in head.modules())
    batch = tensors_of(parts.collate(model, parts.encoded[:2]))
    with torch.no_grad():
        assert model(**batch).logits.isfinite().all()


# A shape to stand under a published name, so that its model is tiny: (where the shapes are, name, shape).
SHAPES: dict[str, tuple[Any, str, Any]] = {
    "whisper": (whisper_configs.SHAPES, "whisper-tiny", whisper_configs.Shape(16, 1, 1, 2, 80, 51_865)),
    "speech2text": (speech2text_processor.SHAPES, "speech2text-small", speech2text_processor.Shape(16, 32, 2)),
    "moonshine": (moonshine.SHAPES, "moonshine-tiny", moonshine.Shape(32, 1, 0.9)),
    "parakeet_tdt": (
        parakeet.SHAPES,
        "parakeet-tdt-0.6b-v3",
        {
            "hidden_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "num_mel_bins": 16,
        },
    ),
    "ctc": (ctc_configs.SHAPES, "w2v-bert-mini", ctc_configs.SHAPES["w2v-bert-mini"]),
    "classifier": (whisper_configs.SHAPES, "whisper-tiny", whisper_configs.Shape(16, 1, 1, 2, 80, 51_865)),
    "regressor": (whisper_configs.SHAPES, "whisper-tiny", whisper_configs.Shape(16, 1, 1, 2, 80, 51_865)),
}
# Families that cannot be built from a name, and what they say.
REFUSED = {"audio_llm": "expected a Qwen2-Audio checkpoint with its own tokenizer, found config:"}


def from_name(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Parts, str]:
    """Return a family's parts with their checkpoint's tokenizer, and the name of an architecture made tiny."""
    shapes, known, shape = SHAPES[name]
    monkeypatch.setitem(shapes, known, shape)
    parts = Parts.of(name, folder)
    tokenizer = None if name in ("ctc", "classifier", "regressor") else parts.arguments.model.name_or_path
    chosen = replace(parts.arguments.model, name_or_path=f"config:{known}", tokenizer_name_or_path=tokenizer)
    parts.arguments = replace(parts.arguments, model=chosen)
    parts.processor = parts.family.load_processor(parts.arguments, parts.rows.rows)
    return parts, known


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_model_from_a_name_is_quantised(
    name: str, bits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, known = from_name(name, tmp_path, monkeypatch)
    plain, model = parts.model(), quantised(parts, bits).model()
    assert sum(type(module) is BITS[bits] for module in model.modules()) >= 3
    assert {key for key, _ in model.named_parameters()} == {key for key, _ in plain.named_parameters()}
    head = parts.family.head
    assert_close(model.get_submodule(head).state_dict(), plain.get_submodule(head).state_dict(), rtol=0, atol=0)
    assert model.config.name_or_path == f"config:{known}"


@pytest.mark.parametrize("name", REFUSED)
def test_a_family_without_names_says_so(name: str, tmp_path: Path) -> None:
    parts = Parts.of(name, tmp_path)
    parts.arguments = replace(parts.arguments, model=replace(parts.arguments.model, name_or_path="config:qwen2-audio"))
    with pytest.raises(UserError, match=REFUSED[name]):
        parts.family.load_processor(parts.arguments, None)


def test_every_family_stands_in_a_table() -> None:
    assert {*SHAPES, *REFUSED} == set(FAMILIES)
