"""The augment section: its mistakes, each one message, and which transforms act."""

from __future__ import annotations

from typing import Any

import pytest

from hf_asr.config.arguments import Arguments, DataArguments, ExperimentArguments, ModelArguments
from hf_asr.config.augmentations import TRANSFORMS, AugmentArguments, Noise
from hf_asr.config.checks import check_tree
from hf_asr.config.paths import absolute_paths
from hf_asr.config.together import check_together

WHOLE = {"experiment": {"name": "x"}, "model": {"name_or_path": "m"}, "data": {"corpus": "manifest", "path": "p"}}


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        ({"noise": {"probability": 1.5}}, ["augment.noise.probability: expected a number (at least 0 and at most 1)"]),
        ({"noise": {"snr_db": [30, 5]}}, ["augment.noise.snr_db: expected a range [low, high], found a list (30, 5)"]),
        ({"noise": {"snr_db": 5}}, ["augment.noise.snr_db: expected a list of numbers, found the number 5"]),
        ({"noise": {"kinds": ["brown"]}}, ["augment.noise.kinds: expected names among white, pink, found 'brown'"]),
        ({"speed": {"factor": [0, 1]}}, ["augment.speed.factor: expected a range [low, high], each at least 0.25"]),
        ({"nois": {}}, ["augment.nois: unknown key. The nearest right name is 'noise'"]),
        ({"noise": {"snr": [5, 9]}}, ["augment.noise.snr: unknown key. The nearest right name is 'snr_db'"]),
        ({"codec": {"formats": ["aac"]}}, ["augment.codec.formats: expected names among opus, mp3, found 'aac'"]),
        ({"gain": True}, ["augment.gain: expected a mapping, found true"]),
    ],
)
def test_a_wrong_value_is_one_message(augment: dict[str, Any], words: list[str]) -> None:
    (problem,) = check_tree({"augment": augment})
    assert [word for word in words if word not in problem] == []


ON = {"enabled": True, "gain": {"probability": 0.5}}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"augment": {"enabled": True}}, ["augment.enabled: expected a transform", "nothing would happen", "Add one"]),
        ({"augment": {"enabled": True, "gain": {"probability": 0}}}, ["augment.enabled: expected a transform"]),
        ({"augment": ON, "features": {"bank": "on"}}, ["features.bank: stored states cannot be augmented", "gain"]),
        (
            {"augment": {**ON, "concatenate": {"probability": 1}}, "data": {**WHOLE["data"], "streaming": True}},
            ["augment.concatenate: a stream has no second clip", "data.streaming=false"],
        ),
        ({"augment": {**ON, "noise": {"kinds": []}}}, ["augment.noise.kinds: expected names", "folder", "neither"]),
        ({"augment": {**ON, "codec": {"formats": []}}}, ["augment.codec.formats: expected names", "found none"]),
        (
            {"augment": {**ON, "band_limit": {"low_hz": [100, 3500]}}},
            ["augment.band_limit.low_hz: expected edges below those of high_hz (3000), found 3500"],
        ),
    ],
)
def test_what_does_not_go_together_is_one_message(sections: dict[str, Any], words: list[str]) -> None:
    (problem,) = check_together(WHOLE | sections)
    assert [word for word in words if word not in problem] == []


@pytest.mark.parametrize(
    "sections",
    [
        {"augment": {"gain": {"probability": 1}}, "features": {"bank": "on"}},
        {"augment": ON, "features": {"bank": "off"}},
        {"augment": ON, "features": {"bank": "auto"}, "data": {**WHOLE["data"], "streaming": True}},
        {"augment": {**ON, "noise": {"kinds": [], "folder": "noises"}}},
        {"augment": {"enabled": "yes", "noise": 3}},
    ],
)
def test_what_goes_together_is_left_alone(sections: dict[str, Any]) -> None:
    assert list(check_together(WHOLE | sections)) == []


def test_transforms_that_act_are_in_the_order_of_the_fields() -> None:
    groups = {name: {"probability": 1} for name in reversed(TRANSFORMS)}
    assert list(AugmentArguments(enabled=True, **groups).chosen()) == list(TRANSFORMS)
    assert AugmentArguments(**groups).chosen() == {}
    some = AugmentArguments(enabled=True, noise={"snr_db": [1, 2]}, gain={"probability": 0}, speed={})
    assert some.chosen() == {"noise": Noise(snr_db=[1, 2])}


def test_whole_numbers_stay_whole() -> None:
    settings = AugmentArguments(enabled=True, spec_augment={"time_masks": 2.0}).chosen()["spec_augment"]
    assert type(settings.time_masks) is int


def test_folders_are_made_absolute(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = Arguments(
        experiment=ExperimentArguments(name="x"),
        model=ModelArguments(name_or_path="m"),
        data=DataArguments(corpus="manifest"),
        augment=AugmentArguments(noise={"folder": "noises", "probability": 1}, reverb={"probability": 1}),
    )
    found = absolute_paths(arguments).augment
    assert found.noise == {"folder": str(tmp_path / "noises"), "probability": 1}
    assert found.reverb == {"probability": 1}
