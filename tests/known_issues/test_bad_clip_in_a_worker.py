"""A bad clip that ends the run came out of a loader's worker wrapped in that worker's traceback."""

from __future__ import annotations

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release


@pytest.mark.parametrize("mode", ["live", "streamed"])
def test_one_message_without_a_traceback(attack: Attack, release: Release, mode: str) -> None:
    clip = release.folder / "clips" / "c2.wav"
    clip.write_bytes(clip.read_bytes()[:-1000])
    words = ("data.num_workers=1", "data.on_bad_clip=raise", "training.max_steps=2", "training.eval_strategy=no")
    outcome = attack.enter(mode, release.yaml, release.model, *words)
    outcome.assert_refused("data.on_bad_clip=raise: expected every clip to be usable, found c2: broken_audio")
    assert outcome.last.startswith("data.on_bad_clip=raise")
