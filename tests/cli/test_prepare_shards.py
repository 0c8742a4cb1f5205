"""hf-asr prepare-shards: from a run's YAML to a folder that says how to train from it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml

from hf_asr.cli import main
from hf_asr.cli.prepare_shards import processes


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path / "cache"))
    return tiny_yaml(tmp_path, tmp_path / "no-model-is-needed", make_tiny_corpus(tmp_path / "corpus"))


def test_the_readme_names_shards_and_the_way_to_train_from_them(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare-shards", "--config", str(config), "--output-dir", str(tmp_path / "shards"), "--order", "sorted"]
    assert main(words) == 0
    assert "train: 12 clips, 1 shards" in capsys.readouterr().out
    text = (tmp_path / "shards" / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert [file["split"] for file in metadata["configs"][0]["data_files"]] == ["train", "validation", "test"]
    section = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["data"]
    assert section == {
        "corpus": "hub",
        "path": "shards",
        "language": "en",
        "text_pipeline": "none",
        "min_seconds": 0.3,
        "max_seconds": 4,
        "filter_votes": False,
    }
    manifest = json.loads((tmp_path / "shards" / "shards.json").read_text())
    assert {name: split["clips"] for name, split in manifest["splits"].items()} == {
        "train": 12,
        "validation": 4,
        "test": 4,
    }
    assert main(words) == 0, "a second call finds all done"
    assert main([*words[:-1], "shuffled"]) == 2
    assert "expected shards that were begun with the same settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--config: expected a YAML"),
        (["--config", "{config}", "--shard-mb", "0"], "--shard-mb: expected a number above 0"),
        (["--config", "{config}", "--shard-mb", "inf"], "--shard-mb: expected a number above 0"),
        (["--config", "{config}", "--num-proc", "0"], "--num-proc: expected 1 or more, found 0"),
        (["--config", "{config}", "data.path=nowhere.csv"], "nowhere.csv"),
    ],
)
def test_refused_in_one_line(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    given = [word.format(config=config) for word in words]
    assert main(["prepare-shards", "--output-dir", str(tmp_path / "out"), *given]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("wanted", "rows", "least", "most"), [(None, 10, 1, 1), (3, 10, 3, 3), (None, 10**9, 1, 512)])
def test_processes(wanted: int | None, rows: int, least: int, most: int) -> None:
    assert least <= processes(wanted, rows) <= most
