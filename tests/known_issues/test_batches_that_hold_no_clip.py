"""Batches of fewer seconds than a clip takes were told after the baseline, and doctor found nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_release import Release, make_release

DATA = "data.batch_seconds: expected at least the longest clip of train"
DECODED = "evaluation.batch_seconds: expected at least the longest clip with its padding"
MISTAKES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "the full window": (["data.batch_seconds=3.9"], (f"{DATA}, 4.00 s, found 3.9. Raise it",)),
    "the full window, streamed": (["data.batch_seconds=3.9", "data.streaming=true"], (DATA, "4.00 s")),
    "the clip alone": (["data.batch_seconds=0.9", "model.window=clip"], (DATA, "found 0.9")),
    "thinned": (["data.batch_seconds=1.2", "model.window=thinned"], (DATA, "found 1.2")),
    "full windows mixed in": (
        ["data.batch_seconds=3.9", "model.window=clip", "model.window_mix=0.1"],
        (f"{DATA}, 4.00 s",),
    ),
    "joined clips": (["data.batch_seconds=3.9", "data.pack=true"], (f"{DATA}, 4.00 s",)),
    "decoding": (["evaluation.batch_seconds=3.9"], (f"{DECODED}, 4.00 s, found 3.9. Raise it",)),
    "decoding of clips alone": (["evaluation.batch_seconds=0.5", "evaluation.window=clip"], (DECODED, "found 0.5")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_is_told_before_a_run_is_begun(attack: Attack, release: Release, mistake: str) -> None:
    overrides, words = MISTAKES[mistake]
    attack.finetune(release.yaml, *overrides).assert_refused(*words)
    assert not (release.yaml.parent / "runs").exists() and not (release.yaml.parent / "features").exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("data.batch_seconds=0.9", (DATA, "found 0.9")),
        ("evaluation.batch_seconds=0.9", (DECODED, "found 0.9")),
        ("evaluation.window=thinned", ("evaluation.window: expected full for a ctc model",)),
    ],
)
def test_of_a_family_without_a_window_as_well(
    attack: Attack, tmp_path: Path, wrong: str, words: tuple[str, ...]
) -> None:
    release = make_release(tmp_path, make_tiny_ctc(tmp_path / "ctc"))
    more = ["evaluation.generation=null", wrong]
    attack.recipe("finetune_ctc", release.yaml, *more).assert_refused(*words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("key", ["data.batch_seconds", "evaluation.batch_seconds"])
def test_doctor_finds_it(attack: Attack, release: Release, key: str) -> None:
    found = attack.verb("doctor", "--config", release.yaml, f"{key}=3.9")
    assert found.code == 1
    assert f"{key}: expected at least the longest clip of" in found.out and "4.00 s" in found.out
    assert attack.verb("doctor", "--config", release.yaml, f"{key}=4").code == 0
