"""evaluation.also, its limits and what long form reads: one message for each mistake, none for what is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_asr.config.arguments import Arguments
from hf_asr.config.parser import load_arguments, save_arguments
from hf_asr.errors import UserError

CONFIG = {"experiment": {"name": "x"}, "model": {"name_or_path": "m"}, "data": {"corpus": "manifest", "path": "p"}}
SETS = {"fleurs_en": {"corpus": "hub", "path": "fleurs", "language": "en", "limit": 5}, "silence": "builtin"}


def loaded(folder: Path, **evaluation: Any) -> Arguments:
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"evaluation": evaluation}))
    return load_arguments([path])


def test_sets_and_limits_are_read_as_written_and_back(tmp_path: Path) -> None:
    read = loaded(tmp_path, also=SETS, also_limits={"fleurs_en": 2.0, "silence": 0})
    assert read.evaluation.also == SETS
    assert read.evaluation.also_limits == {"fleurs_en": 2.0, "silence": 0}
    save_arguments(read, tmp_path / "again.yaml")
    assert load_arguments([tmp_path / "again.yaml"]).evaluation == read.evaluation


def test_paths_of_sets_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips.csv").write_text("path,text\n")
    assert loaded(tmp_path, also={"a": {"path": "clips.csv"}}).evaluation.also["a"]["path"] == str(
        tmp_path / "clips.csv"
    )


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"also": {"s": "bultin"}}, "evaluation.also.s: expected builtin, .* found 'bultin'. Did you mean builtin?"),
        ({"also": {"s": "fleurs"}}, "evaluation.also.s: expected builtin, or a mapping"),
        ({"also": {"s": {}}}, "evaluation.also.s: expected a corpus"),
        ({"also": {"s": {"pth": "x"}}}, "evaluation.also.s.pth: unknown key. The nearest right name is 'path'"),
        ({"also": {"s": {"path": "x", "normalizer": "bsic"}}}, "evaluation.also.s.normalizer: .*Did you mean basic"),
        ({"also": {"s": {"path": "x", "limit": 0}}}, "evaluation.also.s.limit: expected a whole number"),
        ({"also": {"a/b": "builtin"}}, "evaluation.also.a/b: expected a name of letters"),
        ({"also": SETS, "also_limits": {"fleurs": 1}}, "also_limits.fleurs: unknown key. .*'fleurs_en'.*sets of"),
        ({"also_limits": {"fleurs": 1}}, "evaluation.also_limits.fleurs: no set of that name"),
        ({"also": SETS, "also_limits": {"silence": -1}}, "also_limits.silence: expected points of at least 0"),
        ({"also": SETS, "also_limits": {"silence": "two"}}, "expected points of at least 0, .* found 'two'"),
        ({"also": SETS, "also_limits": {"silence": 1}, "baseline": False}, "expected evaluation.baseline=true"),
        ({"prompt": "Anna"}, "evaluation.prompt: expected evaluation.long_form beside it"),
        ({"condition_on_previous_text": True, "long_form": "chunked"}, "expected evaluation.long_form: sequential"),
        ({"long_form": "chuncked"}, "evaluation.long_form: .*Did you mean chunked"),
    ],
)
def test_mistakes_are_told(evaluation: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        loaded(tmp_path, **evaluation)
