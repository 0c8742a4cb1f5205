"""Splits of the real corpora, where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_asr.config.arguments import DataArguments
from hf_asr.data.corpora import build_splits, find_leaks


@pytest.mark.parametrize("language", ["ru", "cy"])
def test_common_voice_sample(shared_data: Path, language):
    path = str(shared_data / "common_voice_6.1_sample" / language)
    splits = build_splits(DataArguments(corpus="common_voice", path=path), seed=0)
    left_out = sum(split.drops.total() for split in splits.values())
    assert sum(len(split.rows) for split in splits.values()) + left_out == 100
    assert all(0.3 <= seconds <= 30 for split in splits.values() for seconds in split.rows["duration"])


def test_gigaspeech_layout_held_out_by_speaker(shared_data: Path):
    data = DataArguments(
        corpus="gigaspeech",
        path=str(shared_data / "gigaspeech_layout"),
        splits={"train": "S", "held_out": {"validation": 0.1, "test": 0.1}},
    )
    splits = build_splits(data, seed=0)
    speakers = [set(split.rows["speaker"]) for split in splits.values()]
    assert sum(map(len, speakers)) == len(set.union(*speakers))
    assert not [line for line in find_leaks(splits) if "speaker" in line]
    assert sum(len(split.rows) for split in splits.values()) > 2000
