"""Ids of a local data set held its whole path, and so decided, where it lay, which clips held_out took."""

from __future__ import annotations

import shutil
from pathlib import Path

import datasets

from hf_asr.config.arguments import DataArguments
from hf_asr.data.hub_dataset import read_hub
from hf_asr.utterance import Drops


def test_a_moved_folder_keeps_its_ids(tmp_path: Path) -> None:
    rows = {"audio": [{"bytes": b"x", "path": None}] * 3, "text": ["a", "b", "c"]}
    first, second = tmp_path / "here" / "corpus", tmp_path / "there" / "corpus"
    first.mkdir(parents=True)
    datasets.Dataset.from_dict(rows).to_parquet(first / "train.parquet")
    shutil.copytree(first, second)
    ids = [
        [row.id for row in read_hub(DataArguments(corpus="hub", name=str(folder)), "train", Drops())]
        for folder in (first, second)
    ]
    assert ids[0] == ids[1] == ["corpus-train-0", "corpus-train-1", "corpus-train-2"]
