"""The Speech2Text family: fbank and masks, labels of one and of several languages, another tokenizer."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clips import noise, row_of, write_clip
from helpers.tiny_speech2text import ENGLISH, make_tiny_speech2text, make_tokenizer
from transformers import Speech2TextForConditionalGeneration, Speech2TextProcessor

from hf_asr.config.arguments import (
    Arguments,
    DataArguments,
    ExperimentArguments,
    FreezeArguments,
    ModelArguments,
    PeftArguments,
)
from hf_asr.errors import UserError
from hf_asr.models import get_family
from hf_asr.models.speech2text import FAMILY, MAX_LENGTH
from hf_asr.models.speech2text_vocabulary import moved_rows
from hf_asr.training.adapters import check_names, make_trainable

RUSSIAN = ("привет, мир!", "как дела? сегодня хорошая погода, 1 2 3")
EMBEDDING = "model.decoder.embed_tokens.weight"


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_speech2text(tmp_path_factory.mktemp("english"))


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_speech2text(tmp_path_factory.mktemp("multilingual"), RUSSIAN, "ru")


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder, (*RUSSIAN, "hello"), "de")
    return folder


def sections(folder: Path | str, language: str | None = "ru", **model: Any) -> Arguments:
    return Arguments(
        ExperimentArguments("test"), ModelArguments(str(folder), **model), DataArguments(language=language)
    )


def load(folder: Path | str, language: str | None = "ru", **model: Any) -> tuple[Any, Any, Any]:
    """Return processor, model and encoder."""
    arguments = sections(folder, language, **model)
    processor = FAMILY.load_processor(arguments, None)
    loaded = FAMILY.load_model(arguments, processor)
    return processor, loaded.eval(), FAMILY.make_encoder(processor, loaded.config, arguments)


def swapped(english: Path, tokenizer_folder: Path, language: str = "ru") -> tuple[Any, Any, Any]:
    return load(english, language, tokenizer_name_or_path=str(tokenizer_folder))


def batch_of(tmp_path: Path, processor: Any, model: Any, encoder: Any, text: str) -> dict[str, Any]:
    clips = [write_clip(tmp_path / f"{index}.wav", noise(0.5 + index, index)) for index in range(3)]
    return FAMILY.make_collator(processor, model)(
        [encoder(row_of(clip, text[index:])) for index, clip in enumerate(clips)]
    )


def inputs_of(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_features", "attention_mask", "decoder_input_ids")}


def test_labels_of_one_language_have_no_prefix(english: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(english, "en")
    vocabulary = processor.tokenizer.get_vocab()
    letters = [vocabulary[letter] for letter in "▁one"]
    assert encoder.labeller.encode("One") == [*letters, vocabulary["</s>"]]
    assert processor.tokenizer("one").input_ids == encoder.labeller.encode("one")
    assert model.generation_config.forced_bos_token_id is None


def test_labels_of_several_begin_with_the_language(multilingual: Path) -> None:
    processor, model, encoder = load(multilingual)
    vocabulary = processor.tokenizer.get_vocab()
    labels = encoder.labeller.encode("мир")
    assert labels == [vocabulary["<lang:ru>"], *(vocabulary[letter] for letter in "▁мир"), vocabulary["</s>"]]
    assert processor.tokenizer("мир").input_ids == labels
    assert model.generation_config.forced_bos_token_id == vocabulary["<lang:ru>"]


def test_a_batch_is_shifted_once_and_as_the_model_would(multilingual: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(multilingual)
    batch = batch_of(tmp_path, processor, model, encoder, "привет мир")
    start, pad = model.config.decoder_start_token_id, model.config.pad_token_id
    assert (start, pad, model.config.eos_token_id) == (2, 1, 2)
    assert (batch["decoder_input_ids"][:, 0] == start).all()
    assert (batch["decoder_input_ids"] == start).sum() == 3
    assert (batch["labels"] == start).sum() == 3
    assert pad not in batch["labels"]
    given = {name: batch[name] for name in ("input_features", "attention_mask", "labels")}
    ours = torch.nn.functional.cross_entropy(model(**inputs_of(batch)).logits.flatten(0, 1), batch["labels"].flatten())
    torch.testing.assert_close(ours, model(**given).loss)


def test_a_clip_without_words_is_the_end_token_alone(english: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(english, "en")
    row = encoder(row_of(write_clip(tmp_path / "a.wav", noise(0.5)), ""))
    batch = FAMILY.make_collator(processor, model)([row])
    assert (batch["labels"].tolist(), batch["decoder_input_ids"].tolist()) == ([[2]], [[2]])


def test_features_are_the_extractors_own(english: Path) -> None:
    processor, _, encoder = load(english, "en")
    samples = noise(1.3)
    expected = processor.feature_extractor(samples, sampling_rate=16_000, return_tensors="np")["input_features"][0]
    assert expected.shape == (128, 80)
    np.testing.assert_array_equal(encoder.front_end(samples), expected)


@pytest.mark.parametrize(
    "samples", [np.zeros(8000, np.float32), noise(0.01), noise(0.026)], ids=["silence", "short", "one"]
)
def test_a_bin_that_never_changes_is_zero(english: Path, samples: np.ndarray) -> None:
    features = load(english, "en")[2].front_end(samples)
    assert len(features) > 0
    assert (features == 0).all()


def test_a_text_in_other_letters_is_left_out_and_told(english: Path, tmp_path: Path) -> None:
    encoder = load(english, "en")[2]
    clip = write_clip(tmp_path / "a.wav", noise(0.5))
    assert encoder(row_of(clip, "привет, мир!"))["error"].startswith("unknown_letters: the tokenizer does not know")
    assert encoder(row_of(clip, "hello world this"))["error"] == ""


def test_a_language_the_tokenizer_has_not_is_refused(multilingual: Path) -> None:
    with pytest.raises(UserError, match=r"data.language: expected .*\(de, es, fr, .*\), found 'sah'"):
        load(multilingual, "sah")
    assert load(multilingual, "sah", language_token="ru")[0].tokenizer.tgt_lang == "ru"
    assert load(multilingual, "ru-RU")[0].tokenizer.tgt_lang == "ru"


def test_padding_with_another_id_is_refused(english: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(english, tmp_path / "other")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["<pad>"], vocabulary["<s>"] = 0, 1
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer_config.json").write_text("{}")  # else its own list of special tokens counts
    with pytest.raises(UserError, match=r"padding has the id 1.*found 0"):
        load(folder, "en")


def test_config_names_build_a_random_model(tokenizer_folder: Path) -> None:
    model = ModelArguments("config:speech2text-small", tokenizer_name_or_path=str(tokenizer_folder))
    assert get_family(model) is FAMILY
    processor, loaded, _ = load(model.name_or_path, tokenizer_name_or_path=str(tokenizer_folder))
    again = load(model.name_or_path, tokenizer_name_or_path=str(tokenizer_folder))[1]
    assert (loaded.config.d_model, loaded.config.vocab_size) == (256, len(processor.tokenizer))
    assert loaded.generation_config.max_length == MAX_LENGTH
    torch.testing.assert_close(loaded.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert FAMILY.must_train(loaded) == ()
    with pytest.raises(UserError, match=r"model.tokenizer_name_or_path: expected a Speech2Text tokenizer"):
        load(model.name_or_path)


def test_rows_move_with_their_piece_and_new_ones_are_the_mean() -> None:
    old = torch.tensor([[1.0, 1.0], [0.0, 0.0], [3.0, 5.0], [5.0, 0.0]])
    rows = moved_rows(
        old, {"a": 0, "<pad>": 1, "b": 2, "c": 3}, {"b": 0, "<pad>": 1, "x": 2, "a": 3, "y": 4}, padding=1
    )
    torch.testing.assert_close(rows, torch.tensor([[3.0, 5.0], [0.0, 0.0], [3.0, 2.0], [1.0, 1.0], [3.0, 2.0]]))


def test_another_tokenizer_resizes_ties_and_sets_ids(english: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    old = load(english, "en")
    processor, model, encoder = swapped(english, tokenizer_folder)
    own, given = old[0].tokenizer.get_vocab(), processor.tokenizer.get_vocab()
    assert len(given) != len(own)
    assert model.config.vocab_size == model.lm_head.out_features == len(given)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.get_input_embeddings().padding_idx == 1
    before, after = old[1].lm_head.weight, model.lm_head.weight
    torch.testing.assert_close(after[given["h"]], before[own["h"]], rtol=0, atol=0)
    torch.testing.assert_close(after[given["м"]], torch.cat([before[:1], before[2:]]).mean(0))
    assert not after[1].any()
    assert model.generation_config.forced_bos_token_id == given["<lang:ru>"]
    loss = model(**inputs_of(batch_of(tmp_path, processor, model, encoder, "привет мир"))).logits
    assert loss.shape[-1] == len(given)
    (note,) = FAMILY.notes(sections(english, tokenizer_name_or_path=str(tokenizer_folder)), processor)
    assert f"{len(set(own) & set(given))} of its {len(given)} pieces" in note
    assert not FAMILY.notes(sections(english), old[0])


def test_a_swapped_model_is_the_same_in_plain_transformers(
    english: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    processor, model, encoder = swapped(english, tokenizer_folder)
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(generator=torch.Generator().manual_seed(0))
    batch = batch_of(tmp_path, processor, model, encoder, "привет мир")
    texts = FAMILY.decode(model, processor, batch, {"max_new_tokens": 8})
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    FAMILY.check_saved(tmp_path / "saved", model)
    plain = Speech2TextForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    reader = Speech2TextProcessor.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(plain(**inputs_of(batch)).logits, model(**inputs_of(batch)).logits)
    tokens = plain.generate(batch["input_features"], attention_mask=batch["attention_mask"], max_new_tokens=8)
    assert [text.strip() for text in reader.batch_decode(tokens, skip_special_tokens=True)] == texts
    assert reader.tokenizer("мир").input_ids == encoder.labeller.encode("мир")
    again, its_encoder = load(tmp_path / "saved", None)[1:]
    assert its_encoder.labeller.encode("мир") == encoder.labeller.encode("мир")
    assert its_encoder.fingerprint() == encoder.fingerprint()
    assert FAMILY.must_train(again) == ()


def test_a_checkpoints_own_tokenizer_given_by_path_is_no_swap(english: Path) -> None:
    model = load(english, "en", tokenizer_name_or_path=str(english))[1]
    expected = load(english, "en")[1].state_dict()
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)
    assert FAMILY.must_train(model) == ()


def test_a_swap_needs_to_know_what_the_old_rows_stood_for(
    english: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(english, tmp_path / "bare")
    (folder / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"expected a vocab.json beside the checkpoint"):
        swapped(folder, tokenizer_folder)


@pytest.mark.parametrize("group", ["embeddings", "head", "decoder", "model.*"])
def test_new_embeddings_may_not_be_frozen(english: Path, tokenizer_folder: Path, group: str) -> None:
    model = swapped(english, tokenizer_folder)[1]
    with pytest.raises(
        UserError, match=rf"freeze: expected {EMBEDDING} to be trained, since the tokenizer was swapped"
    ):
        check_names(model, FAMILY, FreezeArguments(groups=[group]), PeftArguments())
    check_names(load(english, "en")[1], FAMILY, FreezeArguments(groups=["embeddings"]), PeftArguments())


@pytest.mark.parametrize(
    "freeze",
    [
        FreezeArguments(groups=["encoder"]),
        FreezeArguments(last_n_encoder_layers=1),
        FreezeArguments(groups=["decoder"], unfreeze={1: ["embeddings"]}),
    ],
    ids=["encoder", "last layers", "later"],
)
def test_the_rest_may_be_frozen_and_embeddings_thaw(english: Path, tokenizer_folder: Path, freeze: Any) -> None:
    model = swapped(english, tokenizer_folder)[1]
    check_names(model, FAMILY, freeze, PeftArguments())
    make_trainable(model, FAMILY, freeze, PeftArguments(), seed=0)
    assert model.lm_head.weight.requires_grad or freeze.unfreeze


def test_adapters_are_refused_beside_new_embeddings(english: Path, tokenizer_folder: Path) -> None:
    model = swapped(english, tokenizer_folder)[1]
    with pytest.raises(UserError, match=r"peft.method: expected none, since the tokenizer was swapped"):
        check_names(model, FAMILY, FreezeArguments(), PeftArguments(method="lora"))


def test_generation_keeps_the_checkpoints_beams(
    english: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(english, tmp_path / "beams")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_beams": 3, "max_length": 11}))
    with caplog.at_level(logging.WARNING):
        processor, model, encoder = load(folder, "en")
        batch = batch_of(tmp_path, processor, model, encoder, ENGLISH[1][:20])
        texts = FAMILY.decode(model, processor, batch, {})
    expected = model.generate(
        batch["input_features"], attention_mask=batch["attention_mask"], num_beams=3, max_length=11
    )
    assert texts == [text.strip() for text in processor.batch_decode(expected, skip_special_tokens=True)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with pytest.raises(UserError, match="does not know num_beam"):
        FAMILY.check_decoding(model, {"num_beam": 2})


def test_decoding_reads_the_mask(english: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(english, "en")
    batch = batch_of(tmp_path, processor, model, encoder, ENGLISH[1][:20])
    changed = batch | {"input_features": batch["input_features"] + 5 * (1 - batch["attention_mask"][..., None])}
    shorter = model(**inputs_of(batch)).logits[0], model(**inputs_of(changed)).logits[0]
    # The convolutions still reach one padded frame, as at the end of every clip.
    assert (shorter[0] - shorter[1]).abs().max() < 0.05 * shorter[0].abs().max()
    assert len(FAMILY.decode(model, processor, batch, {"max_new_tokens": 5})) == 3


def test_another_extractor_is_refused(english: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(english, tmp_path / "mixed")
    path = folder / "processor_config.json"
    values = json.loads(path.read_text())
    values["feature_extractor"] |= {"num_mel_bins": 40, "feature_size": 40}
    path.write_text(json.dumps(values))
    with pytest.raises(
        UserError, match=r"expected an extractor of \(mel bins, Hz\) \(80, 16000\).*found \(40, 16000\)"
    ):
        load(folder, "en")


def test_dropouts_are_those_of_the_model_section(english: Path) -> None:
    model = load(english, "en", dropout=0.1, attention_dropout=0.2, activation_dropout=0.3, layerdrop=0.4)[1]
    layer = model.model.encoder.layers[0]
    assert (layer.dropout, layer.self_attn.dropout, layer.activation_dropout) == (0.1, 0.2, 0.3)
    assert (model.model.decoder.layerdrop, model.config._attn_implementation) == (0.4, "eager")
    assert load(english, "en")[1].model.encoder.layers[0].dropout == 0
