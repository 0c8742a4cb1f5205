"""config:NAME: real sizes, ids from the tokenizer, weights that only seed and name decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_whisper import tiny_tokenizer
from transformers import GenerationConfig, WhisperTokenizer
from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS_MULTI

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.models import get_family
from hf_asr.models.whisper import FAMILY, make_collator
from hf_asr.models.whisper_configs import SHAPES, Shape, architecture, random_model, suppressed_tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(("en", "ru", "su"), chunk_length=30).save_pretrained(folder)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two architectures that build in milliseconds, one of them English-only."""
    shapes = {
        "whisper-tiny": Shape(16, 1, 2, 2, 80, 51_865),
        "whisper-base": Shape(16, 1, 2, 2, 80, 51_865),
        "whisper-tiny.en": Shape(16, 1, 2, 2, 128, 51_864),
    }
    for name, shape in shapes.items():
        monkeypatch.setitem(SHAPES, name, shape)  # type: ignore[misc]


def load(name: str, tokenizer: Path | None, seed: int = 42, language: str = "ru", **model: Any) -> tuple[Any, Any]:
    chosen = ModelArguments(f"config:{name}", tokenizer_name_or_path=tokenizer and str(tokenizer), **model)
    arguments = Arguments(ExperimentArguments("x", seed=seed), chosen, DataArguments(language=language))
    processor = FAMILY.load_processor(arguments, None)
    return processor, FAMILY.load_model(arguments, processor)


# Sizes in millions of parameters, table 1 of Radford et al. 2022 (tied head counted once), and the model cards of
# large-v3 and turbo.
@pytest.mark.parametrize(
    ("name", "millions", "mel_bins"),
    [
        ("whisper-tiny", 39, 80),
        ("whisper-base", 74, 80),
        ("whisper-small", 244, 80),
        ("whisper-medium", 769, 80),
        ("whisper-large-v2", 1550, 80),
        ("whisper-large-v3", 1550, 128),
        ("whisper-large-v3-turbo", 809, 128),
    ],
)
def test_sizes_are_the_published_ones(name: str, millions: int, mel_bins: int) -> None:
    with torch.device("meta"):
        model = random_model(name, 0, architecture(name, tiny_tokenizer()), "sdpa")
    counted = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert counted == pytest.approx(millions, rel=0.04)
    assert model.config.num_mel_bins == mel_bins
    assert model.config.max_source_positions == 1500
    assert model.config.max_target_positions == 448


def test_names() -> None:
    assert {name for name in SHAPES if name.endswith(".en")} == {
        f"whisper-{size}.en" for size in ("tiny", "base", "small", "medium")
    }
    assert FAMILY.config_names == tuple(SHAPES)
    assert get_family(ModelArguments("config:whisper-large-v3-turbo")) is FAMILY


@pytest.mark.usefixtures("small")
def test_weights_are_a_function_of_seed_and_name(tokenizer: Path) -> None:
    torch.manual_seed(1)
    first = load("whisper-tiny", tokenizer)[1].state_dict()
    torch.manual_seed(2)
    np.random.seed(3)
    again = load("whisper-tiny", tokenizer, language="en", dropout=0.3)[1].state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    for other in (load("whisper-tiny", tokenizer, seed=43), load("whisper-base", tokenizer)):
        assert not torch.equal(first["model.encoder.conv1.weight"], other[1].state_dict()["model.encoder.conv1.weight"])


@pytest.mark.usefixtures("small")
def test_building_leaves_the_random_state_alone(tokenizer: Path) -> None:
    torch.manual_seed(5)
    before, arrays = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    load("whisper-tiny", tokenizer)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (np.random.get_state()[1] == arrays).all()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["whisper-tiny", "whisper-tiny.en"])
def test_special_ids_and_generation_config(tokenizer: Path, name: str) -> None:
    processor, model = load(name, tokenizer, language="en")
    vocabulary = processor.tokenizer.get_vocab()
    start, end = vocabulary["<|startoftranscript|>"], vocabulary["<|endoftext|>"]
    config, generation = model.config, model.generation_config
    assert (config.decoder_start_token_id, config.eos_token_id, config.pad_token_id) == (start, end, end)
    assert (generation.decoder_start_token_id, generation.eos_token_id, generation.pad_token_id) == (start, end, end)
    assert generation.max_length == 448
    assert generation.return_timestamps is False
    assert generation.no_timestamps_token_id == vocabulary["<|notimestamps|>"]
    assert generation.begin_suppress_tokens == [vocabulary["Ġ"], end]
    assert {start, vocabulary["<|translate|>"], vocabulary["<|nospeech|>"]} <= set(generation.suppress_tokens)
    assert not {end, *range(256)} & set(generation.suppress_tokens)
    assert generation.is_multilingual == (not name.endswith(".en"))
    said = generation.to_dict()
    assert ("lang_to_id" in said) == ("task_to_id" in said) == generation.is_multilingual
    if generation.is_multilingual:
        assert said["lang_to_id"]["<|ru|>"] == vocabulary["<|ru|>"]
        assert len(said["lang_to_id"]) == 99
        assert (said["language"], said["task"]) == ("en", "transcribe")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["whisper-tiny", "whisper-tiny.en"])
def test_a_built_model_generates_saves_and_loads(tokenizer: Path, tmp_path: Path, name: str) -> None:
    processor, model = load(name, tokenizer, language="en")
    collate = make_collator(processor, model)
    assert (collate.padder.window_frames, collate.padder.feature_size) == (3000, model.config.num_mel_bins)
    batch = {"input_features": torch.zeros(1, model.config.num_mel_bins, 3000)}
    texts = FAMILY.decode(model, processor, batch, {"max_new_tokens": 4})
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    arguments = Arguments(ExperimentArguments("x"), ModelArguments(str(tmp_path)), DataArguments(language="en"))
    reader = FAMILY.load_processor(arguments, None)
    assert FAMILY.decode(FAMILY.load_model(arguments, reader), reader, batch, {"max_new_tokens": 4}) == texts


@pytest.mark.usefixtures("small")
def test_dtype_and_dropout_of_a_built_model(tokenizer: Path) -> None:
    model = load("whisper-tiny", tokenizer, dtype="bfloat16", dropout=0.1, layerdrop=0.2)[1]
    assert model.dtype == torch.bfloat16
    assert (model.config.dropout, model.config.encoder_layerdrop) == (0.1, 0.2)


def test_a_built_model_needs_a_tokenizer() -> None:
    with pytest.raises(UserError, match=r"model.tokenizer_name_or_path: expected a Whisper tokenizer.*found nothing"):
        load("whisper-tiny", None)


@pytest.mark.parametrize("name", ["nowhere/tokenizer", "/nowhere/at/all"])
def test_a_tokenizer_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match=f"model.tokenizer_name_or_path: expected a Whisper tokenizer .*{name}"):
        load("whisper-tiny", Path(name))


def test_the_real_vocabularies(shared_data: Path) -> None:
    english = WhisperTokenizer.from_pretrained(shared_data / "whisper").get_vocab()
    published = GenerationConfig.from_pretrained(shared_data / "whisper")
    assert suppressed_tokens(english) == published.suppress_tokens
    multilingual = WhisperTokenizer.from_pretrained(shared_data / "whisper-tokenizer-multilingual")
    # What openai/whisper-tiny's generation config lists: the symbols, the start token, two tasks and three prompts.
    text = [id for id in NON_SPEECH_TOKENS_MULTI if id < 50_257]
    assert suppressed_tokens(multilingual.get_vocab()) == [*text, 50258, 50358, 50359, 50360, 50361, 50362]
    config = architecture("whisper-tiny", multilingual)
    assert (config.vocab_size, config.decoder_start_token_id, config.eos_token_id) == (51_865, 50_258, 50_257)
    with pytest.raises(UserError, match=r"at most 51864 entries for whisper-tiny.en, found 51865"):
        architecture("whisper-tiny.en", multilingual)
