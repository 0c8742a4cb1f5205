"""recipes/prepare_features.py in parts: which one is missing is told, and a part that is none is refused."""

from __future__ import annotations

from helpers.outcomes import Attack
from helpers.tiny_release import Release


def test_the_recipe_writes_parts_and_the_last_goes_on(attack: Attack, release: Release) -> None:
    first, second = (attack.prepare(release.yaml, "--shard", f"{number}/2") for number in (1, 2))
    first.assert_done()
    assert "train: part 1 of 2 is done; missing: 2" in first.out and " clips in " not in first.out
    second.assert_done()
    assert "train: 6 clips in " in second.out and second.out.count(" clips in ") == 3
    attack.prepare(release.yaml, "--shard", "3/2").assert_refused("--shard: expected", "'3/2'")
