"""ONNX graphs of a Whisper: the original's logits and texts, for any batch and length. Others: tests/slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.exported import open_whisper, random_features, texts

from hf_asr.export import onnx as exporter
from hf_asr.export.formats import FORMATS, write_export
from hf_asr.export.graphs import ENCODER, FIRST, IDS, LOGITS, NEXT, STATES, names_of
from hf_asr.export.source import Source


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_whisper(tmp_path_factory.mktemp("onnx") / "model")


@pytest.fixture(scope="module")
def folder(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "onnx"
    checkpoint = Path(source.arguments.model.name_or_path)
    write_export(open_whisper(checkpoint), FORMATS["onnx"], out, "float32")
    return out


@pytest.mark.parametrize(("clips", "tokens", "steps"), [(1, 1, 1), (1, 4, 3), (3, 5, 2)])
def test_logits_are_the_originals(folder: Path, source: Source, clips: int, tokens: int, steps: int) -> None:
    encoder, first, following = (exporter.Session(folder / f"{name}.onnx") for name in (ENCODER, FIRST, NEXT))
    features = random_features(clips, seed=tokens)
    ids = torch.randint(0, 94, (clips, tokens + steps), generator=torch.Generator().manual_seed(clips))
    with torch.no_grad():
        expected = source.model(input_features=features, decoder_input_ids=ids).logits.numpy()
    states = encoder({"input_features": features.numpy()})["last_hidden_state"]
    outputs = first({IDS: ids[:, :tokens].numpy(), STATES: states})
    np.testing.assert_allclose(outputs[LOGITS], expected[:, :tokens], atol=1e-4)
    past = {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
    for step in range(steps):
        outputs = following({IDS: ids[:, tokens + step : tokens + step + 1].numpy(), **past})
        np.testing.assert_allclose(outputs[LOGITS][:, 0], expected[:, tokens + step], atol=1e-4)
        past |= {name.replace("present", "past_key_values"): value for name, value in outputs.items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_new_tokens": 1},
        {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.5},
        {"max_new_tokens": None, "max_length": 30},
        {"suppress_tokens": [*range(40), *range(94, 470)], "begin_suppress_tokens": list(range(40, 60))},
    ],
    ids=lambda options: "-".join(options) or "none",
)
def test_greedy_texts_are_the_originals(folder: Path, source: Source, options: dict[str, object]) -> None:
    features, written = random_features(7, seed=3), exporter.open_exported(folder, source)
    ours = texts(source, source.model, features, **options)
    assert texts(source, written, features, **options) == ours
    assert texts(source, written, features[2:3], **options) == ours[2:3]
    assert len(set(ours)) > 2 or options == {"max_new_tokens": 1}


def test_names_and_axes_are_as_documented(folder: Path) -> None:
    graph = onnx.load(folder / f"{NEXT}.onnx").graph
    shapes = {
        place.name: [axis.dim_param or axis.dim_value for axis in place.type.tensor_type.shape.dim]
        for place in graph.input
    }
    assert list(shapes) == [IDS, *names_of("past_key_values", 1)]
    assert shapes[IDS][0] == "batch"
    assert shapes["past_key_values.0.decoder.key"][2] == "past"
    assert [place.name for place in graph.output] == [LOGITS, "present.0.decoder.key", "present.0.decoder.value"]
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "processor_config.json"} <= names
