"""A run from a corpus and a run from its shards: the same features, labels, losses and scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers.outcomes import recipe_main
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.cli import main
from hf_asr.cli.outcome import run_recipe
from hf_asr.features.cache import CachedRows, is_whole

pytestmark = pytest.mark.slow


def outcome(run: Path) -> tuple[list[dict[str, Any]], float]:
    """Return what was logged, without times, and the test WER."""
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    entries = json.loads((last / "trainer_state.json").read_text())["log_history"]
    timed = ("runtime", "per_second")
    history = [{key: item for key, item in entry.items() if not any(t in key for t in timed)} for entry in entries]
    return history, json.loads((run / "test" / "test_results.json").read_text())["wer"]


def features(cache: Path) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Return the features and labels of every clip of a train cache, by id."""
    import datasets

    (folder,) = [path for path in cache.glob("train-*") if path.is_dir() and is_whole(path)]
    table = datasets.concatenate_datasets([datasets.Dataset.from_file(str(p)) for p in folder.glob("*.arrow")])
    size = json.loads((folder / "manifest.json").read_text())["feature_size"]
    rows = CachedRows(table, size, "float16")
    return {row["id"]: (row["input_features"], row["labels"]) for row in (rows[index] for index in range(len(rows)))}


def test_it_is_the_same_run(tmp_path: Path) -> None:
    model, corpus = make_tiny_whisper(tmp_path / "model", d_model=32), make_tiny_corpus(tmp_path / "corpus")
    config = tiny_yaml(tmp_path, model, corpus)
    assert run_recipe(recipe_main("finetune_seq2seq"), ["--config", str(config)]) == 0
    shards = tmp_path / "shards"
    assert main(["prepare-shards", "--config", str(config), "--output-dir", str(shards), "--shard-mb", "0.05"]) == 0
    section = yaml.safe_load((shards / "README.md").read_text().split("```yaml\n")[1].split("```")[0])["data"]
    sections = json.loads(config.read_text())
    sections["data"] = {**section, "path": str(shards)}
    sections["experiment"]["name"] = "from_shards"
    sections["features"]["cache_dir"] = str(tmp_path / "cache_of_shards")
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps(sections))
    assert run_recipe(recipe_main("finetune_seq2seq"), ["--config", str(again)]) == 0
    assert outcome(tmp_path / "runs" / "from_shards") == outcome(tmp_path / "runs" / "tiny")
    theirs, ours = features(tmp_path / "cache"), features(tmp_path / "cache_of_shards")
    assert list(ours) == list(theirs)
    for id, (frames, labels) in theirs.items():
        np.testing.assert_array_equal(ours[id][0], frames)
        assert ours[id][1] == labels
