"""The demo's untrained model is a whole Whisper checkpoint of the English-only kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor, pipeline

from hf_asr.cli.demo_model import SPECIAL, WINDOW_SECONDS, train_tokenizer, write_small_whisper
from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.data.synthetic import LANGUAGES, sentences
from hf_asr.models import get_family

TEXTS = [text for language in LANGUAGES for text in sentences(language, "train")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_whisper(tmp_path_factory.mktemp("model"), TEXTS, seed=3)


def test_every_word_is_one_piece() -> None:
    tokenizer = train_tokenizer(TEXTS)
    for text in [f" {text}" for language in LANGUAGES for text in sentences(language, "test")]:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert len(ids) == len(text.split())
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", ["Żółw, 東京 🙂", "ещё раз", "two  boats", "<|endoftext|>"])
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = train_tokenizer(TEXTS)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert tokenizer.decode(ids) == text
    assert set(ids).isdisjoint(tokenizer.convert_tokens_to_ids(list(SPECIAL)))


def test_the_tokenizer_is_a_function_of_its_texts() -> None:
    first, second = train_tokenizer(TEXTS), train_tokenizer(list(TEXTS))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def test_weights_are_a_function_of_the_seed(folder: Path, tmp_path: Path) -> None:
    torch.rand(7)  # the state of the random generator must not matter
    weights = [
        WhisperForConditionalGeneration.from_pretrained(where).state_dict()
        for where in (
            folder,
            write_small_whisper(tmp_path / "same", TEXTS, 3),
            write_small_whisper(tmp_path / "other", TEXTS, 4),
        )
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_it_loads_without_us(folder: Path) -> None:
    model, processor = WhisperForConditionalGeneration.from_pretrained(folder), WhisperProcessor.from_pretrained(folder)
    vocabulary = processor.tokenizer.get_vocab()
    assert model.config.vocab_size == len(processor.tokenizer)
    assert model.config.decoder_start_token_id == vocabulary["<|startoftranscript|>"]
    assert model.generation_config.no_timestamps_token_id == vocabulary["<|notimestamps|>"]
    assert vocabulary["<|0.00|>"] == vocabulary["<|notimestamps|>"] + 1
    assert vocabulary[f"<|{WINDOW_SECONDS:.2f}|>"] == len(vocabulary) - 1
    assert processor.feature_extractor.nb_max_frames == 2 * model.config.max_source_positions == 200
    prompt = [vocabulary["<|startoftranscript|>"], vocabulary["<|notimestamps|>"]]
    assert processor.tokenizer("ten").input_ids[:2] == prompt
    recognizer = pipeline("automatic-speech-recognition", model=str(folder), device="cpu")
    answer = recognizer({"raw": np.zeros(16_000, np.float32), "sampling_rate": 16_000})
    assert isinstance(answer["text"], str)


def test_our_family_takes_it_without_a_language(folder: Path) -> None:
    model, data = ModelArguments(name_or_path=str(folder)), DataArguments(corpus="synthetic")
    arguments = Arguments(ExperimentArguments("x"), model, data)
    family = get_family(model)
    processor = family.load_processor(arguments, None)
    assert family.notes(arguments, processor) == []
    loaded = family.load_model(arguments, processor)
    assert loaded.generation_config.is_multilingual is False
