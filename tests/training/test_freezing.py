"""Freezing by group: what matches, what is refused, and that frozen weights do not move."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_whisper import make_tiny_whisper
from torch import nn
from transformers import WhisperForConditionalGeneration

from hf_asr.config.arguments import FreezeArguments
from hf_asr.errors import UserError
from hf_asr.models.whisper import FAMILY
from hf_asr.training.freezing import apply_freezing, group_globs, names_of_group, trainable_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_whisper(tmp_path_factory.mktemp("model"), encoder_layers=3)


@pytest.fixture
def model(folder: Path) -> nn.Module:
    return WhisperForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize("group", sorted(FAMILY.freezable))
def test_every_named_group_matches_something(model: nn.Module, group: str) -> None:
    assert names_of_group(model, FAMILY, group)


def test_frozen_encoder_leaves_the_decoder(model: nn.Module) -> None:
    report = apply_freezing(model, FAMILY, FreezeArguments(groups=["encoder"]))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(name.startswith("model.decoder") for name in trained)
    assert report == trainable_report(model) and 0 < report.trainable < report.total


@pytest.mark.parametrize("last", [0, 1, 3])
def test_last_encoder_layers(model: nn.Module, last: int) -> None:
    apply_freezing(model, FAMILY, FreezeArguments(last_n_encoder_layers=last))
    trained = {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("model.encoder")}
    layers = {name.split(".")[3] for name in trained if ".layers." in name}
    assert layers == {str(index) for index in range(3 - last, 3)}
    assert ("model.encoder.layer_norm.weight" in trained) == (last > 0)
    assert "model.encoder.conv1.weight" not in trained


def test_a_glob_is_a_group(model: nn.Module) -> None:
    apply_freezing(model, FAMILY, FreezeArguments(groups=["model.encoder.layers.1.*"]))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name for name in frozen if "embed_positions" not in name} == {
        name for name, _ in model.named_parameters() if name.startswith("model.encoder.layers.1.")
    }


@pytest.mark.parametrize(
    ("freeze", "part"),
    [
        (FreezeArguments(groups=["enocder"]), "found 'enocder'"),
        (FreezeArguments(groups=["model.nothing.*"]), "matches none"),
        (FreezeArguments(groups=["*"]), "something left to train"),
        (FreezeArguments(last_n_encoder_layers=4), "0 to 3"),
    ],
)
def test_refusals(model: nn.Module, freeze: FreezeArguments, part: str) -> None:
    with pytest.raises(UserError, match=part.replace("*", r"\*")):
        apply_freezing(model, FAMILY, freeze)


def test_unknown_group_names_the_known_ones() -> None:
    with pytest.raises(UserError) as error:
        group_globs(FAMILY, "bogus")
    assert all(name in str(error.value) for name in FAMILY.freezable)
