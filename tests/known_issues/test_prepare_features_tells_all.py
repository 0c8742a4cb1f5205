"""recipes/prepare_features.py told of no clip that the corpus left out, and failed on streams."""

from __future__ import annotations

from helpers.outcomes import Attack
from helpers.tiny_release import Release


def test_what_the_corpus_left_out_is_counted(attack: Attack, release: Release) -> None:
    (release.folder / "clips" / "c1.wav").unlink()
    outcome = attack.prepare(release.yaml)
    outcome.assert_done()
    train = next(line for line in outcome.out.splitlines() if line.startswith("train: 5 clips"))
    assert train.endswith("left out: {'missing_audio': 1}")


def test_a_stream_has_no_cache(attack: Attack, release: Release) -> None:
    outcome = attack.prepare(release.yaml, "data.streaming=true")
    outcome.assert_done()
    assert "train: a stream, which has no cache" in outcome.out and "validation: 3 clips in " in outcome.out


def test_without_caches_there_is_nothing_to_do(attack: Attack, release: Release) -> None:
    attack.prepare(release.yaml, "features.cache=false").assert_refused("features.cache: expected true")
