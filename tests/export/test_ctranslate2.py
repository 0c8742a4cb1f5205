"""CTranslate2: the files that faster-whisper reads, and the texts of the original."""

from __future__ import annotations

import json
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from helpers.exported import open_whisper, random_features, texts
from tokenizers import Tokenizer

from hf_asr.errors import UserError
from hf_asr.export import ctranslate2 as exporter
from hf_asr.export.formats import FORMATS, write_export
from hf_asr.export.source import Source

# Mean difference of encoder states of about 0.8 in size: seen 3.3e-7 (float32), 3.3e-4 (float16), and for int8 9.9e-3
# (MKL, that CTranslate2 takes on Intel) and 5.3e-2 (oneDNN, on AMD without VNNI).
STATES = {"float32": 1e-5, "float16": 1e-3, "int8": 1e-1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ctranslate2") / "model"


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> Source:
    return open_whisper(checkpoint)


@pytest.fixture(scope="module")
def exports(checkpoint: Path, source: Source) -> dict[str, Path]:
    """The model in three types of numbers."""
    folders = {name: checkpoint.parent / name for name in STATES}
    for name, folder in folders.items():
        write_export(open_whisper(checkpoint), FORMATS["ctranslate2"], folder, name)
    return folders


def test_the_layout_is_faster_whispers(exports: dict[str, Path]) -> None:
    folder = exports["int8"]
    names = {path.name for path in folder.iterdir()}
    assert {"model.bin", "config.json", "tokenizer.json", "preprocessor_config.json", "vocabulary.json"} <= names
    assert not any(path.is_dir() for path in folder.iterdir())
    assert not [path for path in folder.parent.iterdir() if path.name.startswith("tmp")]
    extractor = json.loads((folder / "preprocessor_config.json").read_text())
    # The keys that faster-whisper hands to its own FeatureExtractor.
    wanted = {"feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "chunk_length": 4, "n_fft": 400}
    assert {name: extractor[name] for name in wanted} == wanted
    config = json.loads((folder / "config.json").read_text())
    assert {"suppress_ids", "suppress_ids_begin", "alignment_heads", "lang_ids"} <= config.keys()
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [tokenizer.token_to_id(token) for token in vocabulary] == list(range(len(vocabulary)))


def test_float32_writes_the_originals_texts(exports: dict[str, Path], source: Source) -> None:
    features, written = random_features(12), exporter.open_exported(exports["float32"], source)
    ours = texts(source, source.model, features)
    assert len(set(ours)) > 3, ours
    assert texts(source, written, features) == ours
    assert texts(source, written, features[4:5]) == ours[4:5]


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 1},
        {"max_new_tokens": 3},
        {"no_repeat_ngram_size": 2},
        {"suppress_tokens": [*range(40), *range(94, 470)], "max_new_tokens": 9},
        {"max_new_tokens": None, "max_length": 30},
        {"max_new_tokens": None},
    ],
    ids=lambda options: "-".join(options) or "none",
)
def test_options_mean_what_they_mean_to_generate(
    exports: dict[str, Path], source: Source, options: dict[str, object]
) -> None:
    features, written = random_features(5, seed=1), exporter.open_exported(exports["float32"], source)
    assert texts(source, written, features, **options) == texts(source, source.model, features, **options)


def test_beams_are_ctranslate2s_own(exports: dict[str, Path], source: Source) -> None:
    """It stops a search at other moments than transformers, so that texts may differ: --verify measures how much."""
    features, written = random_features(8, seed=1), exporter.open_exported(exports["float32"], source)
    greedy, beams = (texts(source, written, features, num_beams=width) for width in (1, 3))
    assert greedy != beams
    assert all(beams)


@pytest.mark.parametrize("quantization", STATES)
def test_states_are_the_originals(exports: dict[str, Path], source: Source, quantization: str) -> None:
    features = random_features(3, seed=2)
    model = ctranslate2.models.Whisper(str(exports[quantization]), device="cpu")
    found = np.array(model.encode(ctranslate2.StorageView.from_array(features.numpy())))
    with torch.no_grad():
        expected = source.model.model.encoder(features).last_hidden_state.numpy()
    assert np.abs(found - expected).mean() < STATES[quantization]


def test_smaller_numbers_make_smaller_files(exports: dict[str, Path]) -> None:
    sizes = [(exports[name] / "model.bin").stat().st_size for name in ("float32", "float16", "int8")]
    assert sizes[0] > 1.5 * sizes[1]
    assert sizes[1] > sizes[2]


def test_ids_beyond_the_vocabulary_are_not_suppressed(exports: dict[str, Path], source: Source) -> None:
    """CTranslate2 would write beyond its arrays; the talker's generation config has such ids."""
    size = source.model.config.vocab_size
    assert max(source.model.generation_config.suppress_tokens) >= size
    config = json.loads((exports["float32"] / "config.json").read_text())
    assert max(config["suppress_ids"]) < size
    assert exporter.known_ids([1, size, -1, 2], size) == [1, 2]
    assert exporter.known_ids([size], size) is None
    assert exporter.known_ids(None, size) is None


def test_a_language_has_to_be_known(exports: dict[str, Path], tmp_path: Path, checkpoint: Path) -> None:
    source = open_whisper(checkpoint, language=None)
    source.model.generation_config.language = None
    with pytest.raises(UserError, match=r"data\.language"):
        texts(source, exporter.open_exported(exports["float32"], source), random_features(1))
