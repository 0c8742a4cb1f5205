"""ONNX graphs of Speech2Text and of every CTC architecture: the original's logits and texts, in any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_families
from helpers.tiny_ctc import TINY as CTC
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_families import Parts

from hf_asr.export import onnx
from hf_asr.export.graphs import IDS, LOGITS, STATES, STATES_MASK
from hf_asr.export.source import Source

pytestmark = pytest.mark.slow


def exported(parts: Parts, gain: float, folder: Path) -> tuple[Source, Any]:
    """Write a family's graphs; return the model and what stands in for it."""
    folder.mkdir()
    source = Source(parts.family, parts.arguments, parts.processor, parts.model(gain))
    onnx.write(source.model, source, folder, "float32")
    return source, onnx.open_exported(folder, source)


def decoded(source: Source, parts: Parts, model: Any, rows: slice, **options: Any) -> list[str]:
    batch = parts.collate(source.model, parts.encoded[rows])
    with torch.no_grad():
        given = {**source.family.decoding_options(parts.arguments), **options}
        return source.family.decode(model, parts.processor, batch, given)


@pytest.mark.parametrize("kind", CTC)
def test_ctc(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_tiny_ctc(tmp_path / "model", kind)
    arguments = tiny_families.tiny_arguments(tmp_path / "corpus", checkpoint)
    monkeypatch.setattr(tiny_families, "TINY", {"ctc": lambda folder: arguments})
    parts = Parts.of("ctc", tmp_path)
    source, graph = exported(parts, 3.0, tmp_path / "out")
    inputs = {
        name: value
        for name, value in parts.collate(source.model, parts.encoded).items()
        if name.startswith(("input", "attention"))
    }
    with torch.no_grad():
        expected = source.model(**inputs).logits
    torch.testing.assert_close(graph(**inputs).logits, expected, atol=1e-4, rtol=1e-4)
    for rows in (slice(0, 1), slice(2, 5), slice(0, 8)):
        ours = decoded(source, parts, source.model, rows)
        assert decoded(source, parts, graph, rows) == ours
        assert any(ours)


def test_speech2text(tmp_path: Path) -> None:
    parts = Parts.of("speech2text", tmp_path)
    source, writer = exported(parts, 3.0, tmp_path / "out")
    batch = parts.collate(source.model, parts.encoded)
    inputs = {name: batch[name] for name in ("input_features", "attention_mask")}
    with torch.no_grad():
        expected = source.model(**inputs, decoder_input_ids=batch["decoder_input_ids"]).logits
    states = writer._encoder({name: value.numpy() for name, value in inputs.items()})
    known = {STATES: states["last_hidden_state"], STATES_MASK: states[STATES_MASK]}
    found = writer._first({IDS: batch["decoder_input_ids"].numpy(), **known})[LOGITS]
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
    end = source.model.generation_config.eos_token_id
    for rows in (slice(0, 1), slice(2, 5), slice(0, 8)):
        options = {"num_beams": 1, "max_new_tokens": 12, "suppress_tokens": [end, 0, 1, 3]}
        ours = decoded(source, parts, source.model, rows, **options)
        assert decoded(source, parts, writer, rows, **options) == ours
        assert all(ours)
