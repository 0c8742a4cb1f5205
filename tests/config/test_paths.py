from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_asr.config.arguments import (
    Arguments,
    DataArguments,
    ExperimentArguments,
    FeatureArguments,
    ModelArguments,
)
from hf_asr.config.paths import absolute_paths


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("model", "clips", "train", "lists"):
        (tmp_path / folder).mkdir()
    for file in ("train.tsv", "lists/dev", "validation"):
        (tmp_path / file).write_text("")
    return tmp_path


def arguments(data: dict[str, Any] | None = None, **changes: Any) -> Arguments:
    parts: dict[str, Any] = {"experiment": ExperimentArguments("a"), "model": ModelArguments("m")}
    return absolute_paths(Arguments(**{**parts, **changes}, data=DataArguments(**(data or {}))))


@pytest.mark.parametrize(
    ("given", "stored"),
    [("runs", "HERE/runs"), ("~/runs", "HERE/runs"), ("../x", "HERE/../x"), ("/r", "/r")],
)
def test_output_and_cache_folders_need_not_exist(here: Path, given: str, stored: str) -> None:
    result = arguments(experiment=ExperimentArguments("a", given), features=FeatureArguments(cache_dir=given))
    expected = str(Path(stored.replace("HERE/..", str(here.parent)).replace("HERE", str(here))))
    assert result.experiment.output_dir == result.features.cache_dir == expected


def test_no_cache_folder_stays_none(here: Path) -> None:
    assert arguments().features.cache_dir is None


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("model", "HERE/model"),
        ("~/model", "HERE/model"),
        ("openai/whisper-tiny", "openai/whisper-tiny"),
        ("config:whisper-tiny", "config:whisper-tiny"),
        ("train.tsv", "train.tsv"),
    ],
)
def test_a_model_is_local_where_there_is_such_a_folder(here: Path, given: str, stored: str) -> None:
    model = arguments(model=ModelArguments(given, tokenizer_name_or_path=given)).model
    assert model.name_or_path == model.tokenizer_name_or_path == stored.replace("HERE", str(here))


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        ({"path": "clips", "transcripts": "train.tsv"}, {"path": "HERE/clips", "transcripts": "HERE/train.tsv"}),
        ({"path": "none"}, {"path": "none"}),
        ({"path": None}, {"path": None}),
        ({"corpus": "hub", "name": "clips"}, {"name": "HERE/clips"}),
        ({"corpus": "hub", "name": "org/name"}, {"name": "org/name"}),
        ({"corpus": "synthetic", "name": "clips"}, {"name": "clips"}),
        (
            {"corpus": "hub", "splits": {"test": {"name": "clips"}, "train": {"corpus": "synthetic", "name": "clips"}}},
            {"splits": {"test": {"name": "HERE/clips"}, "train": {"corpus": "synthetic", "name": "clips"}}},
        ),
        # A name stays a name even where the working directory has something of that name.
        ({"splits": {"train": "train"}}, {"splits": {"train": "train"}}),
        ({"splits": {"test": "validation"}}, {"splits": {"test": "validation"}}),
        ({"splits": {"train": "train.tsv"}}, {"splits": {"train": "HERE/train.tsv"}}),
        ({"splits": {"test": "lists/dev"}}, {"splits": {"test": "HERE/lists/dev"}}),
        ({"splits": {"train": ["train.tsv", "other.tsv"]}}, {"splits": {"train": ["HERE/train.tsv", "other.tsv"]}}),
        ({"splits": {"test": {"path": "clips"}}}, {"splits": {"test": {"path": "HERE/clips"}}}),
        (
            {"splits": {"test": {"splits": {"test": "train.tsv"}}, "held_out": {"by": "id"}}},
            {"splits": {"test": {"splits": {"test": "HERE/train.tsv"}}, "held_out": {"by": "id"}}},
        ),
        (
            {"sources": [{"corpus": "hub", "path": "clips", "splits": {"train": "train.tsv"}, "weight": 1}]},
            {"sources": [{"corpus": "hub", "path": "HERE/clips", "splits": {"train": "HERE/train.tsv"}, "weight": 1}]},
        ),
    ],
)  # fmt: skip
def test_data_paths(here: Path, data: dict[str, Any], stored: dict[str, Any]) -> None:
    result = vars(arguments(data).data)
    assert str({key: result[key] for key in stored}) == str(stored).replace("HERE", str(here))


def test_a_checkpoint_to_resume_from_is_a_path_or_true(here: Path) -> None:
    result = arguments(training={"resume_from_checkpoint": "model", "optim": "model"}).training
    assert result == {"resume_from_checkpoint": str(here / "model"), "optim": "model"}
    assert arguments(training={"resume_from_checkpoint": True}).training == {"resume_from_checkpoint": True}


def test_nothing_is_changed_in_place_and_twice_is_once(here: Path) -> None:
    before = DataArguments(path="clips", splits={"train": "train.tsv"})
    whole = Arguments(ExperimentArguments("a"), ModelArguments("model"), before)
    once = absolute_paths(whole)
    assert before == DataArguments(path="clips", splits={"train": "train.tsv"})
    assert absolute_paths(once) == once
