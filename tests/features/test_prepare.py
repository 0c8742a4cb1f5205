"""A text that the model cannot learn is left out of training only; where clips are scored, it is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_families import Parts, tensors_of
from torch.testing import assert_close

from hf_asr.config.augmentations import AugmentArguments
from hf_asr.data.corpora import build_splits
from hf_asr.evaluation.scoring import validation_scores
from hf_asr.features.augmented import caches_train
from hf_asr.features.collate import IGNORED
from hf_asr.features.extract import NOT_LEARNT
from hf_asr.features.prepare import prepare_splits
from hf_asr.inference.generate import generate_dataset, resolve_conditions

# Family to the reason that a long text cannot be learnt for.
REASONS = {
    "whisper": "label_too_long",
    "speech2text": "label_too_long",
    "moonshine": "label_too_long",
    "parakeet_tdt": "label_too_long",
    "audio_llm": "label_too_long",
    "ctc": "label_longer_than_clip",
}
LONG = " ".join(["two"] * 300)


@pytest.fixture(scope="module", params=REASONS)
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A family whose second clip has a text of 300 words."""
    made = Parts.of(request.param, tmp_path_factory.mktemp(request.param))
    manifest = Path(made.arguments.data.path or "")
    manifest.write_text(manifest.read_text().replace("two six,", f"{LONG},", 1))
    made.rows = build_splits(made.arguments.data, seed=0, names=["train"])["train"]
    return made


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "on the fly"])
def test_the_clip_is_scored_and_not_trained_on(parts: Parts, cache: bool) -> None:
    features = replace(parts.arguments.features, cache=cache)
    arguments = replace(parts.arguments, features=features)
    splits = {"train": parts.rows, "test": replace(parts.rows, name="test")}
    prepared = prepare_splits(splits, parts.encoder, arguments)
    assert prepared["train"].folder != prepared["test"].folder or not cache
    model, reason = parts.model(), REASONS[parts.family.name]
    conditions = resolve_conditions(parts.family, arguments, "cpu")
    hypotheses = {}
    for name, expected in (("train", 7), ("test", 8)):
        generated = generate_dataset(model, parts.family, parts.processor, prepared[name], conditions, progress=False)
        drops = {**prepared[name].drops.reasons, **generated.drops.reasons}
        assert (len(generated.hypotheses), list(drops)) == (expected, [] if name == "test" else [reason])
        if name == "train":
            assert [id for id, _ in drops[reason]] == ["clip1.wav"]
        hypotheses[name] = generated.hypotheses
    texts = [row["text"] for row in parts.rows.rows]
    scores = validation_scores("words", texts, [h.text for h in hypotheses["test"]], "basic")
    assert scores["deletions"] + scores["substitutions"] >= 250


def test_its_loss_counts_nothing(parts: Parts) -> None:
    encoder, loss = replace(parts.encoder, learns=False), parts.family.loss
    rows = [encoder(row) for row in parts.rows.rows.select([0, 1, 2])]
    assert [row["error"] for row in rows] == [""] * 3
    assert list(rows[1]["labels"]) == [NOT_LEARNT] == [IGNORED]
    model, found = parts.model(), []
    for given in (rows, [rows[0], rows[2]]):
        batch = parts.collate(model, given)
        total = loss.summed(model, batch, model(**tensors_of(batch)), 0.0)
        found.append((float(total.detach()), int(loss.items(batch["labels"]))))
    assert found[0][1] == found[1][1]
    assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-5)


def test_only_what_is_scored_has_a_cache_of_its_own(parts: Parts) -> None:
    scoring = replace(parts.encoder, learns=False).fingerprint()
    assert {**scoring, **parts.encoder.fingerprint()} == scoring
    assert set(scoring) - set(parts.encoder.fingerprint()) == {"learns"}


@pytest.mark.parametrize(
    ("augment", "cache", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"noise": {"probability": 0.5}}, True, False),
        ({"noise": {"probability": 0.0}}, True, True),
        ({"spec_augment": {"probability": 0.5}}, True, True),
        ({"spec_augment": {"probability": 0.5}, "gain": {"probability": 0.5}}, True, False),
    ],
)
def test_the_forecast_knows_whether_train_is_cached(
    augment: dict[str, Any], cache: bool, expected: bool, tmp_path: Path
) -> None:
    parts = Parts.of("whisper", tmp_path)
    arguments = parts.arguments
    arguments.features.cache, arguments.augment = cache, AugmentArguments(enabled=True, **augment)
    assert caches_train(arguments) is expected
    assert (prepare_splits({"train": parts.rows}, parts.encoder, arguments)["train"].folder is not None) is expected
