"""The classifier as a model: masks, layers, saving and loading, on every kind of encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_classifier import ENCODERS, tiny_batch, tiny_classifier
from helpers.tiny_whisper import make_tiny_whisper
from torch.testing import assert_close
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, pipeline

from hf_asr.config.arguments import (
    Arguments,
    DataArguments,
    ExperimentArguments,
    FreezeArguments,
    HeadArguments,
    ModelArguments,
    PeftArguments,
)
from hf_asr.data.row_table import ROW_FEATURES
from hf_asr.errors import UserError
from hf_asr.models import get_family
from hf_asr.models.classifier import FAMILY, REGRESSOR_FAMILY, classifier_arguments, load_processor
from hf_asr.models.classifier_encoders import num_states, read_encoder
from hf_asr.models.classifier_model import SpeechClassifier, SpeechRegressor
from hf_asr.models.classifier_targets import targets_of

HEAD = {"blocks": 1, "scales": [1, 3], "pooling": "attention"}


def arguments_of(name: str, label: str = "label", **sections: object) -> Arguments:
    values = {"data": DataArguments(corpus="manifest", columns={"label": label}), **sections}
    return Arguments(ExperimentArguments("x"), ModelArguments(name), **values)  # type: ignore[arg-type]


def rows_of(labels: list[str]):
    import datasets

    audio = {"path": "x", "data": None, "offset": 0, "size": 0, "start": 0.0, "end": None}
    texts = {name: [""] * len(labels) for name in ("text", "speaker", "language", "corpus", "extra")}
    ids = [str(index) for index in range(len(labels))]
    columns = {"id": ids, "audio": [audio] * len(labels), "duration": [1.0] * len(labels), "label": labels}
    return datasets.Dataset.from_dict(texts | columns, features=ROW_FEATURES)


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_changes_nothing(name: str) -> None:
    model, batch = tiny_classifier(ENCODERS[name][0](), **HEAD), tiny_batch(name)
    together = model(**batch).logits
    length = int(batch["attention_mask"][1].sum())
    alone = {key: value[1:] if name == "whisper" else value[1:, :length] for key, value in batch.items()}
    assert_close(model(**alone).logits, together[1:], rtol=0, atol=1e-6)
    if name != "whisper":
        key = "input_values" if "input_values" in batch else "input_features"
        noisy = batch[key].clone()
        noisy[1, length:] = 7.0
        assert_close(model(**(batch | {key: noisy})).logits, together, rtol=0, atol=1e-6)


def test_whisper_pools_the_clips_own_states_alone() -> None:
    model, batch = tiny_classifier(pooling="mean", layers="last"), tiny_batch("whisper")
    states, mask = model.encode(**batch)
    assert (states.shape, mask.sum(1).tolist()) == ((2, 1, 20, 16), [20, 11])  # (21 - 1) // 2 + 1
    assert states[1, :, 11:].eq(0).all()
    everything = model(input_features=batch["input_features"]).logits
    assert not torch.allclose(everything[1], model(**batch).logits[1], atol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_all_layers_are_counted(name: str) -> None:
    model = tiny_classifier(ENCODERS[name][0]())
    states, _ = model.encode(**tiny_batch(name))
    layers, width = num_states(model.config.encoder)
    assert (states.shape[1], states.shape[3]) == (layers, width) == (3, 16)


@pytest.mark.parametrize("name", ["whisper", "wav2vec2", "wav2vec2-bert"])
def test_saved_and_loaded_through_auto_classes(name: str, tmp_path: Path) -> None:
    model, batch = tiny_classifier(ENCODERS[name][0](), **HEAD), tiny_batch(name)
    model.save_pretrained(tmp_path)
    for auto in (AutoModel, AutoModelForAudioClassification):
        again = auto.from_pretrained(tmp_path)
        assert type(again) is SpeechClassifier
        assert_close(again(**batch).logits, model(**batch).logits, rtol=0, atol=0)
    assert AutoConfig.from_pretrained(tmp_path).id2label == {0: "angry", 1: "calm", 2: "sad"}
    assert get_family(ModelArguments(str(tmp_path))) is FAMILY


def test_frozen_encoders_keep_no_graph_and_round_to_half() -> None:
    model, batch = tiny_classifier(round_states=True), tiny_batch("whisper")
    states, _ = model.encode(**batch)
    assert states.requires_grad
    assert_close(states, states.half().float(), rtol=0, atol=0)
    model.encoder.requires_grad_(False)
    assert not model.encode(**batch)[0].requires_grad
    assert model(**batch).logits.requires_grad


def test_states_stand_in_for_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny_classifier(**HEAD), tiny_batch("whisper")
    expected = model(**batch).logits
    states, mask = model.encode(**batch)
    monkeypatch.setattr(type(model.encoder), "forward", None)
    assert_close(model(encoder_states=states, states_mask=mask).logits, expected, rtol=0, atol=0)


def test_the_encoder_is_the_checkpoints_and_the_head_follows_the_seed(tmp_path: Path) -> None:
    folder = make_tiny_whisper(tmp_path / "base")
    arguments = classifier_arguments(arguments_of(str(folder)))
    processor = FAMILY.load_processor(arguments, rows_of(["a", "b", "a"]))
    first, second = (FAMILY.load_model(arguments, processor) for _ in range(2))
    base = AutoModel.from_pretrained(folder).encoder.state_dict()
    assert_close(dict(first.encoder.state_dict()), dict(base), rtol=0, atol=0)
    assert_close(dict(first.head.state_dict()), dict(second.head.state_dict()), rtol=0, atol=0)
    assert first.config.round_states
    assert first.config.guess == "a"


def test_a_saved_classifier_goes_on_with_its_classes(tmp_path: Path) -> None:
    arguments = classifier_arguments(arguments_of(str(make_tiny_whisper(tmp_path / "base"))))
    processor = FAMILY.load_processor(arguments, rows_of(["a", "b", "c"]))
    model = FAMILY.load_model(arguments, processor)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    FAMILY.check_saved(tmp_path / "saved", model)
    saved = arguments_of(str(tmp_path / "saved"))
    again = load_processor(saved, None)
    assert (again.classes, again.guess) == (["a", "b", "c"], processor.guess)
    loaded = FAMILY.load_model(saved, again)
    assert_close(dict(loaded.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"expected a model for regression .*found one for classification"):
        load_processor(
            classifier_arguments(arguments_of(str(tmp_path / "saved"), head=HeadArguments("regression"))), None
        )
    model.config.target_mean = 3.0
    with pytest.raises(ValueError, match=r"target_mean is 0.0, was 3.0"):
        FAMILY.check_saved(tmp_path / "saved", model)


def test_a_pipeline_names_classes(tmp_path: Path) -> None:
    arguments = classifier_arguments(arguments_of(str(make_tiny_whisper(tmp_path / "base"))))
    processor = FAMILY.load_processor(arguments, rows_of(["a", "b", "c"]))
    FAMILY.load_model(arguments, processor).save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    told = pipeline("audio-classification", model=str(tmp_path / "saved"), device="cpu")
    samples = {"raw": torch.zeros(16000).numpy(), "sampling_rate": 16000}
    assert sorted(item["label"] for item in told(samples)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changes", "frozen"),
    [
        ({}, ["encoder"]),
        ({"freeze": FreezeArguments(groups=["feature_encoder"])}, ["feature_encoder"]),
        ({"freeze": FreezeArguments(last_n_encoder_layers=1)}, []),
        ({"freeze": FreezeArguments(unfreeze={1: ["encoder"]})}, ["encoder"]),
        ({"peft": PeftArguments(method="lora")}, []),
    ],
)
def test_the_encoder_is_frozen_unless_something_is_said(changes: dict[str, object], frozen: list[str]) -> None:
    assert classifier_arguments(arguments_of("x", **changes)).freeze.groups == frozen


def test_the_family_follows_the_task() -> None:
    regression = classifier_arguments(arguments_of("x", head=HeadArguments("regression")))
    assert get_family(regression.model, "finetune_classifier") is REGRESSOR_FAMILY
    assert REGRESSOR_FAMILY.build is SpeechRegressor
    wrong = arguments_of("x", head=HeadArguments("regression"))
    wrong.model.family = "classifier"
    with pytest.raises(UserError, match=r"model.family: expected regressor"):
        classifier_arguments(wrong)


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (
            ["", ""],
            "classification",
            r"data.columns.label: expected the column .*found data.columns.label=label, which",
        ),
        (["a", "a"], "classification", "expected at least two classes in train, found one, 'a'"),
        (["1", "x", "y"], "regression", "expected numbers .*found 'x' and 1 others"),
        (["2", "2.0"], "regression", "expected numbers that differ, found 2"),
        (["nan", "1"], "regression", "found 'nan'"),
    ],
)
def test_labels_that_cannot_be_learnt(labels: list[str], task: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        targets_of(rows_of(labels), task, "label")


def test_without_train_there_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train: expected a training split whose labels"):
        FAMILY.load_processor(arguments_of(str(make_tiny_whisper(tmp_path))), None)


@pytest.mark.parametrize(
    ("name", "message"),
    [("config:wisper", "expected one of config:whisper-tiny"), ("/no/such", "nothing there")],
)
def test_encoders_that_there_are_not(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_encoder(ModelArguments(name))


def test_generation_is_refused() -> None:
    with pytest.raises(UserError, match=r"evaluation.generation: expected nothing.*found num_beams"):
        FAMILY.check_decoding(tiny_classifier(), {"num_beams": 2})
