"""Augmentations that cannot be: one message, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release

REFUSED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "probability": (
        ["augment.noise.probability=1.5"],
        ("augment.noise.probability: expected a number (at least 0 and at most 1)", "found the number 1.5"),
    ),
    "nothing": ([], ("augment.enabled: expected a transform", "nothing would happen", "Add one")),
    "bank": (
        ["augment.gain.probability=1", "features.bank=on"],
        ("features.bank: stored states cannot be augmented", "Set features.bank=off or augment.enabled=false"),
    ),
    "missing folder": (
        ["augment.noise={folder: FOLDER/nowhere}"],
        ("augment.noise.folder: expected a folder of recordings, found nothing there", "Check the path"),
    ),
    "empty folder": (
        ["augment.noise={folder: FOLDER/empty}"],
        ("augment.noise.folder: expected recordings", "found it empty", "Put some there"),
    ),
    "no audio": (
        ["augment.reverb={folder: FOLDER/texts}"],
        ("augment.reverb.folder: expected recordings", "found 1 files of other kinds", "Put some there"),
    ),
    "broken audio": (
        ["augment.noise={folder: FOLDER/broken}"],
        ("augment.noise.folder: expected recordings that can be decoded", "found none among 1", "Replace them"),
    ),
    "for classifiers": (
        ["augment.mix.probability=1"],
        ("augment.mix: expected a classifier, found a model that writes text", "Remove augment.mix"),
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folders of which none holds a recording."""
    for name in ("empty", "texts", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "read me.txt").write_text("noise")
    (tmp_path / "broken" / "noise.wav").write_bytes(b"RIFF")
    return tmp_path


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(attack: Attack, release: Release, folder: Path, what: str) -> None:
    overrides, words = REFUSED[what]
    given = [text.replace("FOLDER", str(folder)) for text in overrides]
    outcome = attack.enter("cached", release.yaml, release.model, "augment.enabled=true", *given)
    outcome.assert_refused(*words)


@pytest.mark.parametrize("entry", ["cached", "live", "streamed", "prepare"])
def test_augmented_training_runs_by_every_way(attack: Attack, release: Release, entry: str) -> None:
    given = ["augment.enabled=true", "augment.gain.probability=1", "augment.spec_augment.probability=1"]
    attack.enter(entry, release.yaml, release.model, *given).assert_done()
