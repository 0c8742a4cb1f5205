"""Feature caches as a data set: shards that read back to the same features, with a card that says how."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.tiny_families import Parts

from hf_asr.config.arguments import HubArguments
from hf_asr.errors import UserError
from hf_asr.features.prepare import prepare_splits
from hf_asr.hub.features import push_features, write_split


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts.of("whisper", tmp_path_factory.mktemp("whisper"))


def test_offline_the_shards_and_their_card_are_written(parts: Parts, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    experiment = replace(parts.arguments.experiment, name="tiny", output_dir=str(tmp_path))
    hub = HubArguments(repo="org/tiny", push_features=True)
    arguments = replace(parts.arguments, experiment=experiment, hub=hub)
    prepared = prepare_splits({"train": parts.rows}, parts.encoder, arguments)
    folder = Path(push_features(arguments, prepared))
    card = (folder / "README.md").read_text()
    assert 'load_dataset("org/tiny-features", split="train")' in card
    assert str(tmp_path) not in card + (folder / "features.json").read_text()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    rows = datasets.load_dataset("parquet", data_files=str(folder / "data/*.parquet"), split="train")
    size = json.loads((folder / "features.json").read_text())["train"]["feature_size"]
    originals = prepared["train"].rows
    assert len(rows) == len(originals) > 0
    for row, index in zip(rows, range(len(rows)), strict=True):
        frames = np.frombuffer(row["input_features"], arguments.features.store_dtype).reshape(-1, size)
        np.testing.assert_array_equal(frames, originals[index]["input_features"])
        assert (row["id"], row["labels"]) == (originals[index]["id"], originals[index]["labels"])
        assert row["speaker"] == "" or row["speaker"].startswith("speaker-")
    live = replace(arguments, features=replace(arguments.features, cache=False))
    with pytest.raises(UserError, match="at least one split with a cache"):
        push_features(live, prepare_splits({"train": parts.rows}, parts.encoder, live))


def test_shards_are_cut_by_size(tmp_path: Path) -> None:
    columns = {name: ["x"] * 300 for name in ("id", "text", "label", "speaker")}
    table = datasets.Dataset.from_dict(
        columns | {"duration": [1.0] * 300, "input_features": [bytes(1000)] * 300, "labels": [[1, 2]] * 300}
    )
    paths = write_split(table, "train", tmp_path, shard_bytes=150_000)
    assert [path.name for path in paths] == [f"train-{index:05d}-of-00003.parquet" for index in range(3)]
    assert datasets.Dataset.from_parquet([str(path) for path in paths], cache_dir=str(tmp_path)).num_rows == 300
