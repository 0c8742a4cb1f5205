"""The Whisper family: ids from the vocabulary, language and task set once, the same after a reload."""

from __future__ import annotations

import json
import logging
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clips import noise, row_of, write_clip
from helpers.tiny_whisper import make_tiny_whisper, tiny_tokenizer
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY, check_generation_config

VOCABULARY = tiny_tokenizer().get_vocab()


def ids(*names: str) -> list[int]:
    return [VOCABULARY[f"<|{name}|>"] for name in names]


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("whisper.en"), multilingual=False)


def sections(folder: Path | str, language: str | None = "ru", task: str = "transcribe", **model: Any) -> Arguments:
    return Arguments(
        ExperimentArguments("test"), ModelArguments(str(folder), **model), DataArguments(language=language, task=task)
    )


def load(
    folder: Path | str, language: str | None = "ru", task: str = "transcribe", **model: Any
) -> tuple[Any, Any, Any]:
    """Return processor, model and encoder."""
    arguments = sections(folder, language, task, **model)
    processor = FAMILY.load_processor(arguments, None)
    loaded = FAMILY.load_model(arguments, processor)
    return processor, loaded, FAMILY.make_encoder(processor, loaded.config, arguments)


def batch_of(tmp_path: Path, processor: Any, model: Any, encoder: Any, clips: int = 3) -> dict[str, Any]:
    rows = [
        encoder(row_of(write_clip(tmp_path / f"{index}.wav", noise(0.5 + index, index)), f"text {index}"))
        for index in range(clips)
    ]
    return FAMILY.make_collator(processor, model)(rows)


@pytest.mark.parametrize(
    ("language", "task", "prefix"),
    [
        ("ru", "transcribe", ["ru", "transcribe", "notimestamps"]),
        ("en-GB", "translate", ["en", "translate", "notimestamps"]),
        ("zh-CN", "transcribe", ["zh", "transcribe", "notimestamps"]),
        ("zh-CN", "translate", ["zh", "translate", "notimestamps"]),
        ("sah", "transcribe", ["en", "transcribe", "notimestamps"]),
    ],
)
def test_labels_of_a_multilingual_model(multilingual: Path, language: str, task: str, prefix: list[str]) -> None:
    processor, model, encoder = load(multilingual, language, task)
    labels = encoder.labeller.encode("ab")
    # Chinese is written without spaces, its translation into English is not.
    space = [] if (language, task) == ("zh-CN", "transcribe") else [VOCABULARY["Ġ"]]
    assert labels == [*ids(*prefix), *space, VOCABULARY["a"], VOCABULARY["b"], *ids("endoftext")]
    # What the tokenizer itself gives is the same behind the start token, so other tools label alike.
    assert processor.tokenizer(" ab" if space else "ab").input_ids == [model.config.decoder_start_token_id, *labels]


def test_labels_of_an_english_only_model(english: Path) -> None:
    processor, model, encoder = load(english, "en")
    text = [VOCABULARY[letter] for letter in "Ġab"]
    assert encoder.labeller.encode("ab") == [*ids("notimestamps"), *text, *ids("endoftext")]
    assert processor.tokenizer(" ab").input_ids == [model.config.decoder_start_token_id, *encoder.labeller.encode("ab")]


def test_a_batch_begins_with_one_start_token_that_is_not_bos(multilingual: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(multilingual)
    batch = batch_of(tmp_path, processor, model, encoder)
    start, end = ids("startoftranscript", "endoftext")
    assert model.config.bos_token_id == end != start
    assert (batch["decoder_input_ids"][:, 0] == start).all()
    assert (batch["decoder_input_ids"] == start).sum() == 3
    assert (batch["labels"] == end).sum() == 3
    assert start not in batch["labels"]
    assert batch["input_features"].shape == (3, 80, 400)
    # Whisper shifts labels by itself when it is given no decoder inputs: ours must be the same.
    loss = model(input_features=batch["input_features"], labels=batch["labels"]).loss
    ours = model(**{name: batch[name] for name in ("input_features", "labels", "decoder_input_ids")}).loss
    torch.testing.assert_close(ours, loss)


def test_language_and_task_are_in_the_generation_config(multilingual: Path) -> None:
    config = load(multilingual, "ru", "translate")[1].generation_config
    assert (config.language, config.task, config.forced_decoder_ids) == ("ru", "translate", None)


def test_an_english_only_model_has_neither(english: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="hf_asr"):
        processor, model, _ = load(english, "ru")
    assert "English-only" in caplog.text
    config = model.generation_config.to_dict()
    assert config.get("language") is None
    assert config.get("task") is None
    assert FAMILY.notes(sections("x", "ru"), processor)
    assert not FAMILY.notes(sections("x", "en"), processor)


def test_a_language_without_a_token_is_noted_for_the_card(multilingual: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="hf_asr"):
        processor, model, _ = load(multilingual, "sah", language_token="de")
    assert model.generation_config.language == "de"
    (note,) = FAMILY.notes(sections("x", "sah", language_token="de"), processor)
    assert note in caplog.text
    assert "sah" in note
    assert "under de" in note


def test_multilingual_labels_need_a_language(multilingual: Path) -> None:
    with pytest.raises(UserError, match=r"data.language: expected the language"):
        load(multilingual, None)


def test_without_a_language_generation_detects_it(multilingual: Path) -> None:
    arguments = sections(multilingual, None)
    processor = FAMILY.load_processor(arguments, None)
    model = FAMILY.load_model(arguments, processor)
    assert model.generation_config.to_dict().get("language") is None
    assert FAMILY.decode(model, processor, {"input_features": torch.zeros(2, 80, 400)}, {"max_new_tokens": 3})


def test_a_saved_model_is_the_same_in_plain_transformers(multilingual: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(multilingual)
    batch = batch_of(tmp_path, processor, model, encoder)
    texts = FAMILY.decode(model, processor, batch, {"max_new_tokens": 8})
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    check_generation_config(tmp_path / "saved", model)
    plain = WhisperForConditionalGeneration.from_pretrained(tmp_path / "saved")
    reader = WhisperProcessor.from_pretrained(tmp_path / "saved")
    tokens = plain.generate(batch["input_features"], max_new_tokens=8)
    assert reader.batch_decode(tokens, skip_special_tokens=True) == texts
    assert reader.tokenizer(" ab").input_ids == [model.config.decoder_start_token_id, *encoder.labeller.encode("ab")]
    same = model(**{name: batch[name] for name in ("input_features", "labels")}).logits
    torch.testing.assert_close(plain(**{name: batch[name] for name in ("input_features", "labels")}).logits, same)


def test_a_saved_model_keeps_its_language_when_none_is_given(multilingual: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(multilingual, "ru", "translate")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    _, again, its_encoder = load(tmp_path, None, "translate")
    assert again.generation_config.language == "ru"
    assert its_encoder.labeller.encode("ab") == encoder.labeller.encode("ab")
    assert load(tmp_path, "en")[1].generation_config.language == "en"


@pytest.mark.parametrize("name", ["language", "task", "suppress_tokens", "lang_to_id", "is_multilingual"])
def test_a_generation_config_that_lost_something_is_noticed(multilingual: Path, tmp_path: Path, name: str) -> None:
    _, model, _ = load(multilingual)
    model.save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    saved = json.loads(path.read_text())
    del saved[name]
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=f"{name} is None, was"):
        check_generation_config(tmp_path, model)


def test_forced_decoder_ids_of_old_checkpoints_are_cleared(multilingual: Path, tmp_path: Path) -> None:
    shutil.copytree(multilingual, tmp_path / "old")
    for name in ("config.json", "generation_config.json"):
        path = tmp_path / "old" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"forced_decoder_ids": [[1, 258], [2, 263]]}))
    _, model, _ = load(tmp_path / "old")
    model.save_pretrained(tmp_path / "new")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "new" / name).read_text()).get("forced_decoder_ids") is None


def test_a_bare_config_gets_its_special_ids_from_the_tokenizer(multilingual: Path, tmp_path: Path) -> None:
    # WhisperConfig() has the .en checkpoints' special ids, and its generation config no languages.
    shutil.copytree(multilingual, tmp_path / "bare")
    config = WhisperConfig.from_pretrained(multilingual)
    for name in ("decoder_start_token_id", "bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, 3)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig()
    model.save_pretrained(tmp_path / "bare")
    _, loaded, encoder = load(tmp_path / "bare")
    start, end = ids("startoftranscript", "endoftext")
    assert (loaded.config.decoder_start_token_id, loaded.config.eos_token_id, loaded.config.pad_token_id) == (
        start,
        end,
        end,
    )
    generation = loaded.generation_config
    assert generation.lang_to_id["<|ru|>"] == ids("ru")[0]
    assert generation.task_to_id["translate"] == ids("translate")[0]
    assert generation.no_timestamps_token_id == ids("notimestamps")[0]
    assert (generation.is_multilingual, generation.max_length) == (True, 128)
    assert tuple(encoder.labeller.encode("")[:3]) == tuple(ids("ru", "transcribe", "notimestamps"))


def test_what_a_checkpoint_suppresses_is_left_alone(multilingual: Path, tmp_path: Path) -> None:
    shutil.copytree(multilingual, tmp_path / "copy")
    path = tmp_path / "copy" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"suppress_tokens": None, "max_length": 50}))
    config = load(tmp_path / "copy")[1].generation_config
    assert config.suppress_tokens is None
    assert config.max_length == 50


def test_dropouts_and_attention_are_those_of_the_model_section(multilingual: Path) -> None:
    defaults = load(multilingual)[1].config
    names = ("dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop")
    assert [getattr(defaults, name) for name in names] == [0.0] * 5
    asked = {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3, "layerdrop": 0.4}
    model = load(multilingual, attn_implementation="eager", **asked)[1]
    assert [getattr(model.config, name) for name in names] == [0.1, 0.2, 0.3, 0.4, 0.4]
    assert model.model.encoder.layers[0].dropout == 0.1
    assert model.model.decoder.layerdrop == 0.4
    assert model.config._attn_implementation == "eager"


def test_the_config_can_be_had_without_the_weights(multilingual: Path, tmp_path: Path) -> None:
    shutil.copytree(multilingual, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    arguments = sections(tmp_path / "model", dropout=0.1)
    processor = FAMILY.load_processor(arguments, None)
    config = FAMILY.load_config(arguments, processor)
    assert config.dropout == 0.1
    expected = load(multilingual)[2].fingerprint()
    assert FAMILY.make_encoder(processor, config, arguments).fingerprint() == expected


@pytest.mark.parametrize("generation", [{}, {"num_beams": 2}, {"max_new_tokens": 5}, {"no_repeat_ngram_size": 2}])
def test_decode_equals_plain_generate(multilingual: Path, tmp_path: Path, generation: dict[str, Any]) -> None:
    processor, model, encoder = load(multilingual)
    batch = batch_of(tmp_path, processor, model, encoder, clips=2)
    limited = {"max_new_tokens": 12} | generation
    expected = model.generate(batch["input_features"], language="ru", task="transcribe", **limited)
    assert FAMILY.decode(model, processor, batch, limited) == processor.batch_decode(expected, skip_special_tokens=True)


def test_decode_is_greedy_and_leaves_the_random_state_alone(multilingual: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(multilingual)
    batch = batch_of(tmp_path, processor, model, encoder)
    before = torch.random.get_rng_state()
    texts = [FAMILY.decode(model, processor, batch, {"max_new_tokens": 12}) for _ in range(2)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 3
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_limit_overrules_the_checkpoints_without_a_warning(
    multilingual: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    processor, model, _ = load(multilingual)
    FAMILY.decode(model, processor, {"input_features": torch.zeros(2, 80, 400)}, {"max_new_tokens": 4})
    assert "max_length" not in caplog.text + capfd.readouterr().err
    assert model.generation_config.max_length == 128


def test_a_limit_beyond_the_decoder_is_the_users_mistake(multilingual: Path) -> None:
    processor, model, _ = load(multilingual)
    with pytest.raises(UserError, match=r"evaluation.generation: .*max_new_tokens=1000.*max_target_positions"):
        FAMILY.decode(model, processor, {"input_features": torch.zeros(2, 80, 400)}, {"max_new_tokens": 1000})
    assert model.generation_config.max_length == 128


@pytest.mark.parametrize("mel_bins", [80, 128])
def test_frames_and_bins_are_read_from_the_checkpoint(tmp_path: Path, mel_bins: int) -> None:
    folder = make_tiny_whisper(tmp_path / "model", chunk_length=2, num_mel_bins=mel_bins)
    processor, model, encoder = load(folder)
    batch = batch_of(tmp_path, processor, model, encoder, clips=2)
    assert batch["input_features"].shape == (2, mel_bins, 200)
    assert model(**{name: batch[name] for name in ("input_features", "labels")}).loss.isfinite()


def test_an_extractor_of_another_model_is_refused(multilingual: Path, tmp_path: Path) -> None:
    shutil.copytree(multilingual, tmp_path / "mixed")
    make_tiny_whisper(tmp_path / "other", num_mel_bins=128)
    shutil.copy(tmp_path / "other" / "processor_config.json", tmp_path / "mixed")
    with pytest.raises(UserError, match=r"\(80, 400, 16000\).*found \(128, 400, 16000\)"):
        load(tmp_path / "mixed")


def test_every_group_matches_parameters_and_head_and_targets_exist(multilingual: Path) -> None:
    model = load(multilingual)[1]
    names = [name for name, _ in model.named_parameters()]
    matched = {
        group: [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]
        for group, globs in FAMILY.freezable.items()
    }
    assert all(matched.values())
    assert sorted(matched["encoder"] + matched["decoder"]) == sorted(names)
    assert len(matched["feature_encoder"]) == 4
    assert matched["head"] == ["model.decoder.embed_tokens.weight"]
    assert len(matched["cross_attention"]) == len(matched["decoder_self_attention"]) == 9
    assert not set(matched["cross_attention"]) & set(matched["decoder_self_attention"])
    assert any(name.startswith(FAMILY.encoder_layers_prefix + ".0.") for name in names)
    modules = dict(model.named_modules())
    assert model.get_output_embeddings() is modules[FAMILY.head]
    assert all(any(name.endswith(target) for name in modules) for target in FAMILY.lora_targets)


def test_another_tokenizer_or_extractor_makes_another_cache(multilingual: Path, english: Path, tmp_path: Path) -> None:
    found = [load(folder, "en")[2].fingerprint() for folder in (multilingual, multilingual, english)]
    assert found[0] == found[1] != found[2]
    other = make_tiny_whisper(tmp_path, languages=("en", "ko"))
    assert load(other, "en")[2].fingerprint()["identity"] != found[0]["identity"]


def test_the_real_english_checkpoint(shared_data: Path) -> None:
    processor, model, encoder = load(shared_data / "whisper", "en")
    assert model.dtype == torch.float32
    assert model.config.vocab_size == 51_864
    assert encoder.labeller.encode("Hello.") == [50362, 18435, 13, 50256]
    row = row_of(shared_data / "jfk.flac", "And so, my fellow Americans")
    encoded = encoder(row)
    expected = processor.feature_extractor(_samples(shared_data), sampling_rate=16_000, return_tensors="np")
    batch = FAMILY.make_collator(processor, model)([encoded])
    np.testing.assert_allclose(batch["input_features"], expected["input_features"], atol=2e-3)
    (text,) = FAMILY.decode(model, processor, batch, {})
    assert text.strip().startswith("And so, my fellow Americans, ask not what your country can do for you")


def _samples(shared_data: Path) -> np.ndarray:
    from hf_asr.data.audio import load as load_audio
    from hf_asr.utterance import AudioRef

    return load_audio(AudioRef(path=str(shared_data / "jfk.flac")))
