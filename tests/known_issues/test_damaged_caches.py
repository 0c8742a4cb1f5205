"""Files of ours that something else has written to: made again where that is possible, told where not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release


def change(folder: Path, **keys: object) -> None:
    """Set keys of a cache's manifest, and take those away that are None."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({name: value for name, value in manifest.items() if value is not None}))


MENDED: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: (folder / "manifest.json").write_text('{"files": {'),
    "another manifest": lambda folder: (folder / "manifest.json").write_text("[]"),
    "without drops": lambda folder: change(folder, drops=None),
    "without files": lambda folder: change(folder, files={}),
    "files as a list": lambda folder: change(folder, files=["features.arrow"]),
    "features cut": lambda folder: (folder / "features.arrow").write_bytes(b"ARROW"),
    "features gone": lambda folder: (folder / "features.arrow").unlink(),
}


def cache_of(release: Release) -> Path:
    """Return the cache of the training split."""
    return next(path for path in (release.yaml.parent / "features").glob("train-*") if path.is_dir())


@pytest.mark.parametrize("damage", MENDED)
def test_a_cache_that_is_not_whole_is_made_again(attack: Attack, release: Release, damage: str) -> None:
    attack.prepare(release.yaml).assert_done()
    MENDED[damage](cache_of(release))
    outcome = attack.prepare(release.yaml)
    outcome.assert_done()
    assert "features of train: encoding 6 clips" in outcome.err
    assert "features of test: 4 clips reused" in outcome.err


def test_a_cache_of_the_right_size_with_other_content_is_told(attack: Attack, release: Release) -> None:
    attack.prepare(release.yaml).assert_done()
    features = cache_of(release) / "features.arrow"
    features.write_bytes(bytes(features.stat().st_size))
    attack.prepare(release.yaml).assert_refused("features of train: expected a whole cache", "Delete the folder")


DURATIONS: dict[str, Callable[[Path], object]] = {
    "a digit that is no number": lambda path: path.write_text("clip\tduration[ms]\tbytes\nc1.wav\t900\t²\n"),
    "no numbers": lambda path: path.write_text("clip\tduration[ms]\nc1.wav\tnan\nc2.wav\t-4\nc3.wav\tx\n"),
    "a folder": Path.mkdir,
    "a loop of links": lambda path: path.symlink_to(path.name),
    "bytes": lambda path: path.write_bytes(bytes(range(256))),
}


@pytest.mark.parametrize("damage", DURATIONS)
def test_durations_that_cannot_be_read_are_read_from_the_clips(attack: Attack, release: Release, damage: str) -> None:
    DURATIONS[damage](release.folder / "clip_durations.tsv")
    outcome = attack.prepare(release.yaml)
    outcome.assert_done()
    assert "train: 6 clips" in outcome.out and "left out: nothing" in outcome.out
