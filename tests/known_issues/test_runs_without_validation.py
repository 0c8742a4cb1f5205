"""With training.eval_strategy: no a validation split was asked for all the same, and the run refused without one."""

from __future__ import annotations

from helpers.outcomes import Attack, results_of
from helpers.tiny_release import Release


def test_no_validation_split_is_needed(attack: Attack, release: Release) -> None:
    (release.folder / "dev.tsv").unlink()
    for entry in ("cached", "live", "streamed", "prepare"):
        attack.enter(entry, release.yaml, release.model, "training.eval_strategy=no").assert_done()
    assert results_of(release.yaml.parent / "runs" / "cached" / "test")["num_utterances"] == 4


def test_with_validation_it_is(attack: Attack, release: Release) -> None:
    (release.folder / "dev.tsv").unlink()
    attack.enter("cached", release.yaml, release.model).assert_refused("dev")
