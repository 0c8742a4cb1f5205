"""The CTC family: loss by hand, padding that changes nothing, heads that are kept, extended or made new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.clips import row_of
from helpers.family_training import configuration, encoded, spoken
from helpers.tiny_ctc import LETTERS, TINY, make_tiny_ctc
from safetensors.torch import save_file
from transformers import AutoModelForCTC

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.models import FAMILIES, get_family
from hf_asr.models.ctc import FAMILY, replace_head
from hf_asr.models.ctc_configs import SHAPES
from hf_asr.models.ctc_loss import summed_ctc
from hf_asr.models.ctc_processor import HeadPlan, StateCount, read_config, states_needed
from hf_asr.models.ctc_vocabulary import make_tokenizer, new_vocabulary
from hf_asr.training.freezing import encoder_layer_names, names_of_group
from hf_asr.training.loss import summed_loss

TEXTS = ("abc", "hello you", "a", "good night")


def loaded(folder: Path, train: Any = None, **ctc: Any) -> tuple[Any, Any, Any, Arguments]:
    """Return processor, model, encoder and configuration."""
    arguments = configuration(folder)
    for key, value in ctc.items():
        setattr(arguments.ctc, key, value)
    processor = FAMILY.load_processor(arguments, train)
    model = FAMILY.load_model(arguments, processor).eval()
    return processor, model, FAMILY.make_encoder(processor, model.config, arguments), arguments


# ---- loss ----


def by_hand(log_probs: torch.Tensor, labels: list[int], blank: int) -> float:
    """Return -log of the sum over all paths that spell the labels, each path in turn."""
    states, vocabulary = log_probs.shape
    total = 0.0
    for path in np.ndindex(*[vocabulary] * states):
        merged = [id for place, id in enumerate(path) if place == 0 or id != path[place - 1]]
        if [id for id in merged if id != blank] == labels:
            total += float(torch.exp(sum(log_probs[place, id] for place, id in enumerate(path))))
    return -np.log(total)


@pytest.mark.parametrize(("labels", "blank"), [([1, 2], 0), ([1, 1], 0), ([2], 0), ([0, 1], 2), ([], 0)], ids=str)
def test_the_loss_is_the_sum_over_all_paths(labels: list[int], blank: int) -> None:
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    row = torch.tensor([labels or [blank]])
    found = summed_ctc(logits, torch.tensor([4]), row, blank)
    torch.testing.assert_close(float(found), by_hand(logits[0].log_softmax(-1), labels, blank), rtol=1e-5, atol=1e-5)


def test_the_loss_is_torchs_over_clips_of_several_lengths() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 9, 5, generator=generator, requires_grad=True)
    labels = torch.tensor([[1, 2, 3], [4, 4, -100], [2, -100, -100]])
    states = torch.tensor([9, 6, 3])
    found = summed_ctc(logits, states, labels, 0)
    stock = torch.nn.CTCLoss(blank=0, reduction="sum")
    flat = torch.tensor([1, 2, 3, 4, 4, 2])
    wanted = stock(logits.log_softmax(-1).transpose(0, 1), flat, states, torch.tensor([3, 2, 1]))
    torch.testing.assert_close(found, wanted)
    assert FAMILY.loss.items(labels) == 6


def test_fillers_and_clips_without_an_alignment_count_nothing() -> None:
    logits = torch.randn(3, 3, 5, requires_grad=True)
    labels = torch.tensor([[1, 2, -100], [-100, -100, -100], [3, 3, 3]])
    states = torch.tensor([3, 3, 3])
    total = summed_ctc(logits, states, labels, 0)
    torch.testing.assert_close(total, summed_ctc(logits[:1], states[:1], labels[:1], 0))
    total.backward()
    assert logits.grad is not None
    assert logits.grad[1:].abs().max() == 0
    assert torch.isinf(summed_ctc(logits, states, labels, 0, zero_infinity=False))


def test_autocast_leaves_the_loss_in_float32() -> None:
    logits, labels = torch.randn(2, 50, 5), torch.tensor([[1, 2], [3, 4]])
    states = torch.tensor([50, 50])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = summed_ctc(logits, states, labels, 0)
    torch.testing.assert_close(found, summed_ctc(logits, states, labels, 0), rtol=0, atol=0)


# ---- every architecture ----


@pytest.mark.parametrize("name", TINY)
def test_padding_changes_neither_loss_nor_text(name: str, tmp_path: Path) -> None:
    processor, model, encoder, _ = loaded(make_tiny_ctc(tmp_path, name))
    collate = FAMILY.make_collator(processor, model)
    rows = encoded(encoder, TEXTS, seconds_a_letter=0.32)
    model.requires_grad_(False)
    batches = [collate(rows), *(collate([row]) for row in rows)]
    tensors = [{key: value for key, value in batch.items() if isinstance(value, torch.Tensor)} for batch in batches]
    together, *single = [float(summed_loss(FAMILY.loss, model, inputs)[0]) for inputs in tensors]
    texts = [FAMILY.decode(model, processor, batch, {"beam": 1}) for batch in batches]
    assert len(texts[0]) == len(rows)
    if name == "wav2vec2_group":  # pretrained without a mask: padding is silence that it hears
        assert "attention_mask" not in batches[0]
        assert together != pytest.approx(sum(single), rel=1e-3)
    else:
        assert "attention_mask" in batches[0]
        assert together == pytest.approx(sum(single), rel=1e-4)
        assert texts[0] == [text for batch in texts[1:] for text in batch]


@pytest.mark.parametrize("name", TINY)
def test_the_loss_is_the_models_own(name: str, tmp_path: Path) -> None:
    processor, model, encoder, _ = loaded(make_tiny_ctc(tmp_path, name))
    batch = FAMILY.make_collator(processor, model)(encoded(encoder, TEXTS, seconds_a_letter=0.32))
    tensors = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
    model.config.ctc_loss_reduction = "sum"
    torch.testing.assert_close(summed_loss(FAMILY.loss, model, tensors)[0], model(**tensors).loss)


@pytest.mark.parametrize("name", TINY)
def test_states_are_counted_as_the_model_makes_them(name: str, tmp_path: Path) -> None:
    processor, model, encoder, _ = loaded(make_tiny_ctc(tmp_path, name))
    for row in encoded(encoder, TEXTS, seconds_a_letter=0.32):
        batch = FAMILY.make_collator(processor, model)([row])
        with torch.no_grad():
            logits = logits_of(model, batch)
        assert StateCount(model.config)(len(row["input_features"])) == logits.shape[1]


def logits_of(model: Any, batch: Any) -> torch.Tensor:
    """Return logits of a collated batch."""
    return model(**{key: value for key, value in batch.items() if key.startswith(("input", "attention"))}).logits


@pytest.mark.parametrize("name", TINY)
def test_saved_and_loaded_again_it_writes_the_same(name: str, tmp_path: Path) -> None:
    processor, model, encoder, _ = loaded(make_tiny_ctc(tmp_path / "a", name))
    rows = encoded(encoder, TEXTS, seconds_a_letter=0.32)
    batch = FAMILY.make_collator(processor, model)(rows)
    model.save_pretrained(tmp_path / "b")
    processor.save_pretrained(tmp_path / "b")
    FAMILY.check_saved(tmp_path / "b", model)
    stock = AutoModelForCTC.from_pretrained(tmp_path / "b").eval()
    again, ours, encoder_again, _ = loaded(tmp_path / "b")
    with torch.no_grad():
        wanted = logits_of(model, batch)
        torch.testing.assert_close(logits_of(stock, batch), wanted, rtol=0, atol=0)
        torch.testing.assert_close(logits_of(ours, batch), wanted, rtol=0, atol=0)
    assert encoder_again.fingerprint() == encoder.fingerprint()
    assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


@pytest.mark.parametrize("name", TINY)
def test_every_group_and_the_layers_are_found(name: str, tmp_path: Path) -> None:
    _, model, _, _ = loaded(make_tiny_ctc(tmp_path, name))
    for group in ("encoder", "encoder_layers", "head", "layer_norms"):
        assert names_of_group(model, FAMILY, group)
    frozen, trained = encoder_layer_names(model, FAMILY, 1)
    assert any(".1." in item for item in trained)
    assert not set(frozen) & set(trained)


@pytest.mark.parametrize("name", SHAPES)
def test_config_names_build(name: str) -> None:
    arguments = configuration(f"config:{name}")
    assert get_family(arguments.model).name == "ctc"
    config = read_config(arguments.model)
    config.vocab_size = 40
    with torch.device("meta"):
        model = FAMILY.build(config)
    assert model.num_parameters() > 1e6


# ---- clips that cannot be learnt, silence ----


@pytest.mark.parametrize(("labels", "needed"), [([1, 2, 3], 3), ([1, 1, 2], 4), ([5, 5, 5], 5), ([], 0)])
def test_repeated_characters_need_a_blank_between(labels: list[int], needed: int) -> None:
    assert states_needed(labels) == needed


def test_a_label_longer_than_its_clip_is_named(tmp_path: Path) -> None:
    _, _, encoder, _ = loaded(make_tiny_ctc(tmp_path, "parakeet"))
    samples = spoken("a", seconds_a_letter=0.4)  # 0.4 s, 25 states a second
    assert encoder.encode(row_of("a.wav", "abcdefgh", "a"), samples)["error"] == ""
    found = encoder.encode(row_of("a.wav", "hello all of you", "a"), samples)["error"]
    assert found.startswith("label_longer_than_clip: 17 tokens need 19 frames of the encoder, it has 10")


def test_a_clip_in_which_nothing_is_said_is_learnt_as_blanks(tmp_path: Path) -> None:
    processor, model, encoder, _ = loaded(make_tiny_ctc(tmp_path))
    row = encoder.encode(row_of("a.wav", " ", "a"), spoken("..."))
    assert row["labels"] == [processor.tokenizer.pad_token_id]
    batch = FAMILY.make_collator(processor, model)([row])
    assert FAMILY.loss.items(batch["labels"]) == 1
    logits = logits_of(model, batch)
    found = FAMILY.loss.summed(model, batch, type("Outputs", (), {"logits": logits}), 0.0)
    torch.testing.assert_close(found, -logits.log_softmax(-1)[0, :, 0].sum())


# ---- heads ----


def train_rows(*texts: str) -> Any:
    return Dataset.from_dict({"text": list(texts)})


def test_a_pretrained_encoder_gets_a_new_head_from_train(tmp_path: Path) -> None:
    folder = make_tiny_ctc(tmp_path, "wav2vec2", head=False)
    processor, model, _, arguments = loaded(folder, train_rows("ba", "cb a"))
    assert processor.tokenizer.get_vocab() == {"[PAD]": 0, "[UNK]": 1, "|": 2, "a": 3, "b": 4, "c": 5}
    assert model.lm_head.weight.shape == (6, 24)
    again = FAMILY.load_model(arguments, processor)
    torch.testing.assert_close(again.lm_head.weight, model.lm_head.weight, rtol=0, atol=0)
    arguments.experiment.seed = 1
    assert not torch.equal(FAMILY.load_model(arguments, processor).lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("name", ["wav2vec2", "w2v_bert"])
def test_an_extended_head_keeps_its_rows(name: str, tmp_path: Path) -> None:
    folder = make_tiny_ctc(tmp_path, name)
    _, before, _, _ = loaded(folder)
    processor, model, _, _ = loaded(folder, train_rows("é a", "ñ"), vocabulary="extend")
    old = len(LETTERS) + 3
    assert model.config.vocab_size == old + 2
    assert [processor.tokenizer.convert_ids_to_tokens(id) for id in (old, old + 1)] == ["é", "ñ"]
    torch.testing.assert_close(model.lm_head.weight[:old], before.lm_head.weight, rtol=0, atol=0)
    mean = before.lm_head.weight.mean(0)
    torch.testing.assert_close(model.lm_head.weight[old], mean, rtol=0, atol=5 * model.config.initializer_range)


def test_train_replaces_a_head_and_parakeets_too(tmp_path: Path) -> None:
    processor, model, encoder, _ = loaded(make_tiny_ctc(tmp_path, "parakeet"), train_rows("ab"), vocabulary="train")
    assert model.ctc_head.weight.shape == (5, 24, 1)
    batch = FAMILY.make_collator(processor, model)(encoded(encoder, ["ab"], seconds_a_letter=0.32))
    assert logits_of(model, batch).shape[-1] == 5


def test_rows_of_a_replaced_head_go_where_the_plan_says(tmp_path: Path) -> None:
    _, model, _, _ = loaded(make_tiny_ctc(tmp_path))
    old = model.lm_head.weight.clone()
    replace_head(model, HeadPlan(3, False, {0: 7, 2: 4}))
    torch.testing.assert_close(model.lm_head.weight[[0, 2]], old[[7, 4]], rtol=0, atol=0)
    assert model.config.vocab_size == 3


# ---- MMS ----


@pytest.fixture
def mms(tmp_path: Path) -> Path:
    """A checkpoint with the languages eng (within the weights) and rus (an adapter file beside them)."""
    folder = make_tiny_ctc(tmp_path / "mms", "mms")
    tokenizer = make_tokenizer(new_vocabulary(LETTERS), "eng")
    tokenizer.vocab["rus"] = new_vocabulary("абв")
    tokenizer.save_pretrained(folder)
    model = AutoModelForCTC.from_pretrained(folder)
    adapter = {name: torch.full_like(value, 0.5) for name, value in model._get_adapters().items()}
    head = {"lm_head.weight": torch.full((6, 24), 0.25), "lm_head.bias": torch.zeros(6)}
    save_file(
        {name: value.contiguous() for name, value in (adapter | head).items()}, folder / "adapter.rus.safetensors"
    )
    return folder


def of_language(folder: Path, language: str, train: Any = None) -> tuple[Any, Any]:
    arguments = configuration(folder, adapter_language=language)
    processor = FAMILY.load_processor(arguments, train)
    return processor, FAMILY.load_model(arguments, processor)


def test_a_language_brings_its_adapter_and_its_head(mms: Path) -> None:
    processor, model = of_language(mms, "rus")
    assert processor.tokenizer.encode("в") == [5]
    assert model.lm_head.weight.shape == (6, 24)
    assert (model.lm_head.weight == 0.25).all()
    assert all((value == 0.5).all() for name, value in model.named_parameters() if ".adapter_layer." in name)
    assert model.config.vocab_size == 6


def test_a_new_language_gets_a_new_adapter_and_head_and_is_found_again(mms: Path, tmp_path: Path) -> None:
    processor, model = of_language(mms, "sah", train_rows("саха тыла"))
    assert processor.tokenizer.target_lang == "sah"
    stock = AutoModelForCTC.from_pretrained(mms)
    name = "wav2vec2.encoder.layers.0.adapter_layer.linear_1.weight"
    assert not torch.equal(model.get_parameter(name), stock.get_parameter(name))
    torch.testing.assert_close(
        model.get_parameter("wav2vec2.encoder.layers.0.attention.q_proj.weight"),
        stock.get_parameter("wav2vec2.encoder.layers.0.attention.q_proj.weight"),
    )
    model.save_pretrained(tmp_path / "new")
    processor.save_pretrained(tmp_path / "new")
    _, again = of_language(tmp_path / "new", "sah")
    torch.testing.assert_close(again.get_parameter(name), model.get_parameter(name), rtol=0, atol=0)
    torch.testing.assert_close(again.lm_head.weight, model.lm_head.weight, rtol=0, atol=0)


def test_the_base_of_an_mms_model_is_all_but_adapters_and_head(mms: Path) -> None:
    _, model = of_language(mms, "rus")
    base = set(names_of_group(model, FAMILY, "base"))
    rest = {name for name, _ in model.named_parameters()} - base
    assert all("adapter_layer" in name or name.startswith("lm_head") or "masked_spec" in name for name in rest)
    assert not any("adapter_layer" in name for name in base)


def test_language_adapters_that_are_missing_are_told(mms: Path, tmp_path: Path) -> None:
    (mms / "adapter.rus.safetensors").unlink()
    with pytest.raises(UserError, match=r"expected adapter\.rus\.safetensors beside the weights"):
        of_language(mms, "rus")
    with pytest.raises(UserError, match="expected a checkpoint with language adapters"):
        of_language(make_tiny_ctc(tmp_path / "plain"), "rus", train_rows("а"))


# ---- bad input ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vocabulary": "checkpoint"},
            "checkpoint expects a checkpoint with a CTC head and its characters, found none",
        ),
        ({"vocabulary": "extend"}, "extend expects a checkpoint with a CTC head"),
        ({"vocabulary": "auto"}, "expected the texts of the training split, since .* brings no characters"),
        ({"vocabulary": "/no/vocab.json"}, "or the path of a vocab.json, found '/no/vocab.json'"),
        ({"lm": "a.arpa"}, "expected ctc.beam above 1 beside it"),
    ],
)
def test_a_model_without_a_vocabulary_is_told(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = make_tiny_ctc(tmp_path, head=False)
    with pytest.raises(UserError, match=message):
        loaded(folder, None, **changes)


def test_a_head_whose_characters_are_lost_is_told(tmp_path: Path) -> None:
    folder = make_tiny_ctc(tmp_path)
    for name in ("vocab.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"expected a CTC vocabulary .* Or set ctc.vocabulary=train"):
        loaded(folder)


def test_options_of_generate_and_smoothing_are_refused(tmp_path: Path) -> None:
    arguments = configuration(make_tiny_ctc(tmp_path))
    arguments.evaluation.generation = {"num_beams": 4}
    with pytest.raises(UserError, match=r"found num_beams\. Use ctc.beam, ctc.lm"):
        FAMILY.load_processor(arguments, None)
    arguments.evaluation.generation, arguments.training = {}, {"label_smoothing_factor": 0.1}
    with pytest.raises(UserError, match="CTC has no label a frame to smooth"):
        FAMILY.load_processor(arguments, None)


def test_a_family_that_does_not_fit_the_recipe_names_the_right_one(tmp_path: Path) -> None:
    arguments = configuration(make_tiny_ctc(tmp_path))
    with pytest.raises(UserError, match=r"found a ctc model\. Start recipes/finetune_ctc\.py instead"):
        get_family(arguments.model, recipe="finetune_seq2seq")
    with pytest.raises(UserError, match=r"Start recipes/finetune_seq2seq\.py instead"):
        get_family(configuration("config:whisper-tiny").model, recipe="finetune_ctc")
    assert FAMILIES["ctc"] is FAMILY
