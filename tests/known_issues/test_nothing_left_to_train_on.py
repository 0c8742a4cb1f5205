"""With features computed on the fly a run over nothing but broken clips "trained", and ended well."""

from __future__ import annotations

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release


def break_split(release: Release, split: str) -> None:
    """Put a text behind every header of a split's clips, so that they break only when they are decoded."""
    for line in (release.folder / f"{split}.tsv").read_text().splitlines()[1:]:
        clip = release.folder / "clips" / line.split("\t")[1]
        clip.write_bytes(clip.read_bytes()[:-1000])


@pytest.mark.parametrize("mode", ["cached", "live", "streamed"])
@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("dev", "validation"), ("test", "test")])
def test_it_is_told(attack: Attack, release: Release, split: str, name: str, mode: str) -> None:
    break_split(release, split)
    outcome = attack.enter(mode, release.yaml, release.model, "training.max_steps=2")
    outcome.assert_refused(f"{name}: expected clips", "found none left", "broken_audio", "is truncated")
    assert not (release.yaml.parent / "runs" / mode / "test" / "test_results.json").exists()


@pytest.mark.parametrize("cache", ["true", "false"])
def test_evaluate_tells_it_too(attack: Attack, release: Release, cache: str) -> None:
    break_split(release, "test")
    outcome = attack.enter("evaluate", release.yaml, release.model, f"features.cache={cache}")
    outcome.assert_refused("test: expected clips", "found none left", "is truncated")


def test_a_loss_of_nan_is_logged_as_nan(attack: Attack, release: Release) -> None:
    """The Trainer's own filter shows 0 in its place."""
    words = ["training.learning_rate=1e30", "training.warmup_steps=0", "evaluation.baseline=false"]
    outcome = attack.finetune(release.yaml, *words)
    outcome.assert_done()
    assert "loss nan" in outcome.err and "loss 0," not in outcome.err
