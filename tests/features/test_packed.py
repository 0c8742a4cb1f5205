"""A split's windows: the same cached, on the fly and streamed; anew every epoch; augmented clip by clip."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_corpus import make_tiny_corpus
from helpers.tiny_families import tiny_arguments
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.config.arguments import Arguments
from hf_asr.config.augmentations import AugmentArguments
from hf_asr.data.corpora import build_splits
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.packed import PackedTraining, PackedWindows
from hf_asr.features.prepare import prepare_splits
from hf_asr.models.whisper import FAMILY

CLIPS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    make_tiny_whisper(folder / "model")
    make_tiny_corpus(folder / "corpus", train=CLIPS)
    return folder


def configured(folder: Path, **data: Any) -> Arguments:
    arguments = tiny_arguments(folder / "unused", folder / "model")
    values = {"path": str(folder / "corpus" / "manifest.csv"), "pack": True, "shuffle_buffer": 0} | data
    arguments.data = replace(arguments.data, **values)
    arguments.features.cache_dir = None
    return arguments


def prepared(arguments: Arguments) -> tuple[PreparedSplit, ClipEncoder]:
    processor = FAMILY.load_processor(arguments, None)
    encoder = FAMILY.make_encoder(processor, FAMILY.load_config(arguments, processor), arguments)
    split = build_splits(arguments.data, seed=arguments.experiment.seed, names=["train"])["train"]
    return prepare_splits({"train": split}, encoder, arguments)["train"], encoder


def windows_of(split: PreparedSplit, shuffle: bool = True) -> PackedWindows:
    assert isinstance(split.packing, PackedTraining)
    return split.packing.windows(split, shuffle=shuffle)


def read(rows: Any) -> list[dict[str, Any]]:
    return [rows[place] for place in range(len(rows))] if isinstance(rows, PackedWindows) else list(rows)


def assert_same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    assert [row["pieces"] for row in first] == [row["pieces"] for row in second]
    for one, other in zip(first, second, strict=True):
        assert list(one["labels"]) == list(other["labels"]) and one["dropped"] == other["dropped"]
        np.testing.assert_array_equal(np.asarray(one["input_features"]), np.asarray(other["input_features"]))


@pytest.mark.parametrize("speakers", ["same", "any"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_cached_on_the_fly_and_streamed_are_the_same(folder: Path, share: float, speakers: str) -> None:
    ways = []
    for cache, streaming in ((True, False), (False, False), (False, True)):
        arguments = configured(folder, pack_share=share, pack_speakers=speakers, streaming=streaming)
        arguments.features.cache = cache
        split, _ = prepared(arguments)
        ways.append(read(split.rows if streaming else windows_of(split, shuffle=False)))
    assert_same(ways[0], ways[1])
    assert_same(ways[0], ways[2])
    ids = [id for row in ways[0] for id in row["pieces"]]
    assert sorted(ids) == sorted(f"clip{place}.wav" for place in range(CLIPS))
    packed = [len(row["pieces"]) > 1 for row in ways[0]]
    assert np.mean(packed) == pytest.approx(share, abs=0.15)  # one window of seven
    assert all(len(row["input_features"]) <= 400 and len(row["labels"]) < 128 for row in ways[0])


def test_epochs_differ_and_each_has_every_clip_once(folder: Path) -> None:
    split, _ = prepared(configured(folder))
    windows = windows_of(split)
    assert split.epoch is not None
    seen = []
    for epoch in (0, 1, 2, 0):
        split.epoch.set(epoch)
        rows = read(windows)
        assert len(rows) == len(windows)
        assert set(Counter(id for row in rows for id in row["pieces"]).values()) == {1}
        seen.append([row["pieces"] for row in rows])
    assert seen[0] == seen[3] and seen[0] != seen[1] != seen[2]
    again, _ = prepared(configured(folder))
    assert [row["pieces"] for row in read(windows_of(again))] == seen[0]


def test_single_rows_stay_what_they_are_without_packing(folder: Path) -> None:
    """What decodes training clips one by one sees no difference: features and labels, to the bit."""
    (packed, _), (plain, _) = prepared(configured(folder)), prepared(configured(folder, pack=False))
    assert packed.folder != plain.folder and plain.packing is None
    for place in range(CLIPS):
        ours, stock = packed.rows[place], plain.rows[place]  # type: ignore[index]
        np.testing.assert_array_equal(ours["input_features"], stock["input_features"])
        assert ours["labels"] == stock["labels"]


def test_only_the_split_that_is_trained_on_is_packed(folder: Path) -> None:
    arguments = configured(folder)
    _, encoder = prepared(arguments)
    splits = build_splits(arguments.data, seed=0, names=["train", "validation"])
    both = prepare_splits(splits, encoder, arguments)
    assert both["train"].packing is not None and both["validation"].packing is None
    assert "joint" not in both["validation"].rows[0]  # type: ignore[index]
    assert all(split.packing is None for split in prepare_splits(splits, encoder, arguments, trained_on=()).values())


@pytest.mark.parametrize("streaming", [False, True], ids=["table", "stream"])
def test_waveforms_change_before_joining_and_masks_come_after(folder: Path, streaming: bool) -> None:
    plain, _ = prepared(configured(folder, pack_share=1.0, streaming=streaming))
    results = {}
    for name, given in {
        "speed": {"speed": {"probability": 1.0, "factor": [0.8, 0.9]}},
        "spec_augment": {"spec_augment": {"probability": 1.0}},
    }.items():
        arguments = configured(folder, pack_share=1.0, streaming=streaming)
        arguments.augment = AugmentArguments(enabled=True, **given)  # type: ignore[arg-type]
        split, _ = prepared(arguments)
        results[name] = read(split.rows if streaming else windows_of(split, shuffle=False))
        ids = [id for row in results[name] for id in row["pieces"]] + [
            item["id"] for row in results[name] for item in row["dropped"]
        ]
        assert sorted(ids) == sorted(f"clip{place}.wav" for place in range(CLIPS))
    before = read(plain.rows if streaming else windows_of(plain, shuffle=False))
    assert not any(row["dropped"] for rows in results.values() for row in rows)
    assert sum(row["duration"] for row in results["speed"]) > 1.1 * sum(row["duration"] for row in before)
    assert [row["pieces"] for row in results["spec_augment"]] == [row["pieces"] for row in before]
    for masked, row in zip(results["spec_augment"], before, strict=True):
        assert list(masked["labels"]) == list(row["labels"])
        assert not np.array_equal(masked["input_features"], row["input_features"])


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "on the fly"])
def test_broken_clips_are_told_and_the_others_trained_on(tmp_path: Path, folder: Path, cache: bool) -> None:
    manifest = make_tiny_corpus(tmp_path / "corpus", train=CLIPS)
    broken = manifest.parent / "clip5.wav"
    broken.write_bytes(broken.read_bytes()[:-1000])
    arguments = configured(folder, path=str(manifest), pack_share=1.0)
    arguments.features.cache = cache
    split, _ = prepared(arguments)
    rows = read(windows_of(split))
    told = [row["id"] for row in rows if row["error"]] + [item["id"] for row in rows for item in row["dropped"]]
    assert sorted(told + [id for items in split.drops.reasons.values() for id, _ in items]) == ["clip5.wav"]
    ids = {id for row in rows if not row["error"] for id in row["pieces"]}
    assert len(ids) == CLIPS - 1
