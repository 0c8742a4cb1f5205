"""A bank that would be wrong, too large or unread: one message before anything is written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release

ON = ["features.bank=on", "freeze.groups=[encoder]"]
LORA = ["features.bank=on", "peft.method=lora", "peft.r=2"]
REFUSED: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "waveform augmentation": (
        [*ON, "augment.enabled=true", "augment.gain={probability: 1}"],
        ("features.bank", "augment.gain", "augment.enabled=false"),
    ),
    "SpecAugment": (
        [*ON, "augment.enabled=true", "augment.spec_augment={probability: 1}"],
        ("features.bank", "augment.spec_augment"),
    ),
    "a trained encoder": (["features.bank=on"], ("encoder weights that are trained", "freeze.groups=[encoder]")),
    "some of the encoder trained": (
        ["features.bank=on", "freeze.groups=[encoder_self_attention]"],
        ("encoder weights that are trained", "model.encoder.conv1.weight"),
    ),
    "last layers trained": (["features.bank=on", "freeze.last_n_encoder_layers=1"], ("encoder weights",)),
    "adapters everywhere": (LORA, ("adapters inside the encoder", "target_modules=[encoder_attn.q_proj")),
    "adapters by a name of both": ([*LORA, "peft.target_modules=[self_attn.k_proj]"], ("adapters inside the encoder",)),
    "an adapter by its whole name": (
        [*LORA, "peft.target_modules=[encoder_attn.q_proj, model.encoder.layers.0.self_attn.q_proj]"],
        ("adapters inside the encoder (model.encoder.layers.0.self_attn.q_proj, by peft.target_modules)",),
    ),
    "dropout": ([*ON, "model.dropout=0.1"], ("model.dropout", "draw at random")),
    "attention dropout": ([*ON, "model.attention_dropout=0.1"], ("model.attention_dropout",)),
    "layerdrop": ([*ON, "model.layerdrop=0.1"], ("model.layerdrop", "set it to 0")),
    "the encoder unfrozen later": ([*ON, "freeze.unfreeze={1: [encoder_layers]}"], ("freeze.unfreeze.1",)),
    "a stream": ([*ON, "data.streaming=true", "training.max_steps=4"], ("data.streaming=false",)),
    "two windows": ([*ON, "model.window=clip", "model.window_mix=0.2"], ("model.window_mix=0.2", "set it to 0")),
    "packing": ([*ON, "data.pack=true"], ("data.pack",)),
    "suspicious clips": ([*ON, "data.drop_suspicious=1.0"], ("data.drop_suspicious",)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(attack: Attack, release: Release, what: str) -> None:
    overrides, words = REFUSED[what]
    outcome = attack.enter("cached", release.yaml, release.model, *overrides)
    outcome.assert_refused("features.bank", *words)
    assert not (release.yaml.parent / "runs").exists()


def test_a_bank_that_does_not_fit_is_told_with_numbers_before_a_feature_is_computed(
    attack: Attack, release: Release, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    outcome = attack.enter(
        "cached", release.yaml, release.model, *ON, "features.bank_max_gb=1e-6", f"features.cache_dir={cache}"
    )
    outcome.assert_refused("expected at most features.bank_max_gb=1e-06 GB", "found 0.0", "model.window=thinned")
    assert not cache.exists() and not (release.yaml.parent / "runs").exists()


def test_a_disk_without_room_is_told_before_a_run_is_begun(
    attack: Attack, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("hf_asr.features.bank_room.shutil.disk_usage", lambda place: SimpleNamespace(free=1000))
        outcome = attack.enter("cached", release.yaml, release.model, *ON)
    outcome.assert_refused("features.bank: expected 0.00 GB free in", "found 0.00 GB", "features.cache_dir")
    assert not (release.yaml.parent / "runs").exists() and not (release.yaml.parent / "features").exists()
    attack.enter("cached", release.yaml, release.model, *ON).assert_done()


def test_auto_says_why_not_and_trains_on(attack: Attack, release: Release) -> None:
    outcome = attack.enter("cached", release.yaml, release.model, "features.bank=auto")
    outcome.assert_done()
    assert "features.bank=auto: no bank, since encoder weights that are trained" in outcome.err


def test_the_decoder_may_be_unfrozen_later(attack: Attack, release: Release) -> None:
    words = ["freeze.groups=[encoder, embeddings]", "freeze.unfreeze={1: [embeddings]}", "training.max_steps=-1"]
    outcome = attack.enter(
        "cached", release.yaml, release.model, "features.bank=on", *words, "training.num_train_epochs=2"
    )
    outcome.assert_done()
