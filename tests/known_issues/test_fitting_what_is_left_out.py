"""`hf-asr doctor --fit-batch-seconds` ended in a traceback where training would have left a clip out."""

from __future__ import annotations

import pytest
from helpers.outcomes import Attack
from helpers.tiny_corpus import tone
from helpers.tiny_release import Release

from hf_asr.data.audio import SAMPLE_RATE, encode

LONG = "cat " * 150


@pytest.mark.parametrize("more", [[], ["data.pack=true"], ["model.window=clip"]])
def test_texts_longer_than_the_decoder_are_not_fitted(attack: Attack, release: Release, more: list[str]) -> None:
    release.add("train", "long.wav", LONG, encode(tone(3, 1.5), SAMPLE_RATE, "wav"))
    found = attack.verb("doctor", "--config", release.yaml, "--fit-batch-seconds", *more)
    assert "for the YAML:\ndata:\n  batch_seconds: " in found.out, found.err


def test_clips_longer_than_the_window_are_not_fitted(attack: Attack, release: Release) -> None:
    release.add("train", "long.wav", "a cat", encode(tone(3, 5.5), SAMPLE_RATE, "wav"))
    found = attack.verb("doctor", "--config", release.yaml, "--fit-batch-seconds", "data.max_seconds=10")
    assert "for the YAML:\ndata:\n  batch_seconds: " in found.out, found.err


def test_no_clip_is_left(attack: Attack, release: Release) -> None:
    release.rewrite(lambda table: table.replace(b"\t2\t0", f" {LONG}\t2\t0".encode()), "train")
    found = attack.verb("doctor", "--config", release.yaml, "--fit-batch-seconds")
    found.assert_refused("train: expected clips to train on, found none left: label_too_long", "Check data.path")


def test_a_bank_that_would_be_wrong_is_told(attack: Attack, release: Release) -> None:
    found = attack.verb("doctor", "--config", release.yaml, "--fit-batch-seconds", "features.bank=on")
    found.assert_refused("features.bank=on: expected an encoder that gives the same states", "freeze.groups=[encoder]")
