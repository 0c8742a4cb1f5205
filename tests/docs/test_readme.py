"""What README.md tells a newcomer to write and to type works."""

from __future__ import annotations

import csv
import importlib.util
import re
from pathlib import Path

import pytest
from helpers.tiny_corpus import make_tiny_corpus
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.config.names import TRAINING
from hf_asr.config.parser import load_arguments


@pytest.fixture(scope="module")
def readme(project_root: Path) -> str:
    return (project_root / "README.md").read_text()


def test_your_own_csv_in_five_lines(
    readme: str, project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The YAML as it stands, on 40 tones of 40 speakers, with a tiny model and one step."""
    manifest = make_tiny_corpus(tmp_path, train=40, validation=0, test=0)
    with manifest.open() as source, (tmp_path / "speech.csv").open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["path", "text", "speaker"])
        writer.writerows([row["path"], row["text"], f"s{i}"] for i, row in enumerate(csv.DictReader(source)))
    (match,) = re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    (tmp_path / "my.yaml").write_text(match)
    model = make_tiny_whisper(tmp_path / "model", languages=("de",), chunk_length=30)
    monkeypatch.chdir(tmp_path)
    path = project_root / "recipes" / "finetune_seq2seq.py"
    spec = importlib.util.spec_from_file_location("finetune_seq2seq", path)
    assert spec and spec.loader
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    changes = ["training.bf16=false", "training.use_cpu=true", "training.max_steps=1", "features.num_proc=1"]
    limit = "evaluation.generation={max_new_tokens: 4}"
    recipe.main(["--config", "my.yaml", f"model.name_or_path={model}", *changes, limit])
    assert (tmp_path / "runs" / "mine" / "test" / "test_results.json").is_file()


def test_its_yaml_is_short(readme: str) -> None:
    (match,) = re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    lines = [line for line in match.splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 5


def test_every_key_it_names_exists(readme: str, project_root: Path) -> None:
    reference = (project_root / "docs" / "configuration.md").read_text()
    named = re.findall(r"`((?:experiment|model|data|features|freeze|peft|evaluation|hub)\.\w+)", readme)
    assert len(set(named)) > 20
    assert [
        key for key in sorted(set(named)) if f"`{key}`" not in reference and key.split(".")[1] not in reference
    ] == []
    training = re.findall(r"`training\.(\w+)", readme)
    own = {"scheduler", "resume_from_checkpoint"}
    assert training and not {key for key in training if key not in own and key not in TRAINING}


def test_every_file_it_names_exists(readme: str, project_root: Path) -> None:
    links = re.findall(r"\]\(([\w./]+)\)", readme) + re.findall(r"\b(recipes/[\w/]+\.(?:py|yaml))", readme)
    assert links and [link for link in links if not (project_root / link).exists()] == []


def test_its_commands_parse(readme: str, project_root: Path) -> None:
    """Every configuration that a shown command names is a good one."""
    for name in set(re.findall(r"--config (recipes/[\w/]+\.yaml)", readme)):
        load_arguments([project_root / name])
