"""Which family a checkpoint belongs to, and what one is told when it belongs to none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_asr.config.arguments import ModelArguments
from hf_asr.errors import UserError
from hf_asr.models import FAMILIES, get_family


def checkpoint(folder: Path, content: str) -> str:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    return str(folder)


def test_names_agree() -> None:
    assert all(name == family.name for name, family in FAMILIES.items())
    types = [kind for family in FAMILIES.values() for kind in family.model_types]
    assert len(types) == len(set(types))


def test_family_by_name_config_name_and_checkpoint(tmp_path: Path) -> None:
    whisper = FAMILIES["whisper"]
    assert get_family(ModelArguments("anything", family="whisper")) is whisper
    assert get_family(ModelArguments("config:whisper-small.en")) is whisper
    assert get_family(ModelArguments(checkpoint(tmp_path / "a", '{"model_type": "whisper"}'))) is whisper


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path) -> None:
    remote = {"model_type": "whisper", "auto_map": {"AutoConfig": "evil.Config"}}
    folder = checkpoint(tmp_path / "a", json.dumps(remote))
    (tmp_path / "a" / "evil.py").write_text("raise SystemExit('ran')")
    assert get_family(ModelArguments(folder)).name == "whisper"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config:whisper-huge", r"expected one of config:whisper-tiny, .*found 'config:whisper-huge'"),
        ("/no/such/folder", "found /no/such/folder: nothing there"),
        ("./no-such-folder", "nothing there"),
        ("somebody/some-model", r"no folder somebody/some-model, and the Hub is switched off \(HF_HUB_OFFLINE\)"),
        ("not a name!", "model.name_or_path"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        get_family(ModelArguments(name))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "bert"}', r"known family \(whisper: whisper; .*\), found model_type 'bert'"),
        ('{"hidden_size": 8}', "without a config.json that has a model_type"),
        ("{broken", "not a valid JSON"),
    ],
)
def test_folders_that_are_no_checkpoint_of_ours(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        get_family(ModelArguments(checkpoint(tmp_path / "a", content)))


def test_an_empty_folder_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no checkpoint")
    for name in ("empty", "notes.txt"):
        with pytest.raises(UserError, match=r"model.name_or_path: expected a transformers checkpoint"):
            get_family(ModelArguments(str(tmp_path / name)))


def test_an_unknown_family_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"model.family: expected one of whisper, .*, found 'wisper'"):
        get_family(ModelArguments("x", family="wisper"))
