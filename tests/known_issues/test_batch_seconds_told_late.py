"""A batch_seconds that was too small ended a run after its baseline, or after its whole training."""

from __future__ import annotations

import json

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.batch_seconds=3.5"], ("data.batch_seconds: expected at least the longest clip of train, 4.00 s",)),
        (
            ["data.batch_seconds=3.5", "model.window=clip", "model.window_mix=0.5"],
            ("data.batch_seconds: expected at least", "4.00 s", "model.window_mix"),
        ),
        (
            ["evaluation.batch_seconds=3.5", "evaluation.baseline=false"],
            ("evaluation.batch_seconds: expected at least", "4.00 s, found 3.5", "evaluation.batch_size"),
        ),
    ],
)
def test_it_is_told_before_a_run_is_begun(
    attack: Attack, release: Release, overrides: list[str], words: tuple[str, ...]
) -> None:
    attack.finetune(release.yaml, *overrides).assert_refused(*words)
    assert not (release.yaml.parent / "runs").exists()


def test_the_window_beside_the_thinned_one_has_room(attack: Attack, release: Release) -> None:
    """A clip takes less than 3.5 s of the thinned window and 4 s of the full one, which is decoded at the end."""
    thinned = ["model.window=thinned", "evaluation.window=thinned", "model.window_stride=50"]
    attack.finetune(release.yaml, *thinned, "evaluation.batch_seconds=3.5").assert_done()
    run = next((release.yaml.parent / "runs").iterdir())
    found = {name: json.loads((run / name / "test_results.json").read_text()) for name in ("test", "test_full")}
    assert {name: results["batch_seconds"] for name, results in found.items()} == {"test": 3.5, "test_full": 4.0}
