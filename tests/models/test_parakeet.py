"""Parakeet-TDT: labels without an end, the transducer's loss by hand, the same step however it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clips import row_of
from helpers.family_training import configuration, curve, encoded, load, spoken, trainer_of
from helpers.tiny_parakeet import LETTERS, SPECIAL, make_tiny_parakeet
from transformers import ParakeetForTDT, ParakeetProcessor

from hf_asr.errors import UserError
from hf_asr.features.collate import IGNORED
from hf_asr.models.parakeet import FAMILY, FixedBatchNorm
from hf_asr.models.tdt import encoder_states, summed_tdt
from hf_asr.training.freezing import names_of_group

BLANK = len(SPECIAL) + len(LETTERS)
TEXTS = ["abc", "a", "hello world", "no", "four", "we", "are here", "z"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_parakeet(tmp_path_factory.mktemp("parakeet"))


def ids(text: str) -> list[int]:
    return [len(SPECIAL) + LETTERS.index(letter) for letter in text]


def logits_of(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    names = ("input_features", "attention_mask", "decoder_input_ids")
    return model(**{name: batch[name] for name in names}).logits


def test_labels_are_the_text_and_nothing_else(tiny: Path) -> None:
    _, _, encoder = load(FAMILY, configuration(tiny))
    labels = encoder.labeller({"text": " ab <blank>aa "})
    assert labels == [*ids("▁ab▁"), 0, *ids("blank"), 0, *ids("aa")]
    assert encoder.labeller.read(ids("▁aab")) == "aab"
    assert encoder.labeller({"text": ""}) == []


def test_features_are_the_extractors_without_its_last_frame(tiny: Path) -> None:
    processor, _, encoder = load(FAMILY, configuration(tiny))
    clips = [spoken("abc"), spoken("hello world")]
    batch = processor.feature_extractor(clips, sampling_rate=16000, return_tensors="np")
    for place, clip in enumerate(clips):
        frames = encoder.front_end(clip)
        assert len(frames) == len(clip) // 160 == batch["attention_mask"][place].sum()
        np.testing.assert_allclose(frames, batch["input_features"][place, : len(frames)], atol=1e-4)
    assert np.isfinite(encoder.front_end(np.zeros(200, np.float32))).all()


def test_a_batch(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, configuration(tiny))
    rows = encoded(encoder, ["abc", "b c"])
    batch = FAMILY.make_collator(processor, model)([*rows, rows[0] | {"padding": True}])
    a, b = ids("▁abc"), ids("▁b▁c")
    assert batch["labels"].tolist() == [a, b, [IGNORED] * 4]
    assert batch["decoder_input_ids"].tolist() == [[BLANK, *a], [BLANK, *b], [BLANK, *a]]
    assert batch["attention_mask"].sum(-1).tolist() == [45, 45, 45]
    # What the processor itself makes of the text is the same.
    made = processor(spoken("abc"), text="abc", sampling_rate=16000)
    assert made["decoder_input_ids"].tolist()[0][0] == BLANK
    assert made["labels"].tolist() == [a]


def by_hand(tokens: torch.Tensor, durations: torch.Tensor, labels: list[int], places: tuple[int, ...]) -> float:
    """Return -log P(labels) of one clip: the forward recursion of Xu et al. 2023, one cell after the other."""
    states, rows = tokens.shape[:2]
    alpha = torch.full((states + max(places) + 1, rows), float("-inf"), dtype=torch.float64)
    alpha[0, 0] = 0.0
    for u in range(rows):
        for t in range(states):
            for place, duration in enumerate(places):
                step = alpha[t, u] + durations[t, u, place]
                if duration:
                    alpha[t + duration, u] = torch.logaddexp(alpha[t + duration, u], step + tokens[t, u, BLANK])
                if u + 1 < rows and t + duration < states:  # the last arc of a path is a blank
                    label = step + tokens[t, u, labels[u]]
                    alpha[t + duration, u + 1] = torch.logaddexp(alpha[t + duration, u + 1], label)
    return -float(alpha[states, rows - 1])


def test_the_loss_is_the_recursions(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, configuration(tiny))
    batch = FAMILY.make_collator(processor, model)(encoded(encoder, ["abc", "bd", "hello"]))
    logits = logits_of(model, batch)
    expected = 0.0
    for place, states in enumerate(encoder_states(batch["attention_mask"].sum(-1), model.config.encoder_config)):
        labels = [label for label in batch["labels"][place].tolist() if label != IGNORED]
        own = logits[place, : int(states), : len(labels) + 1].double()
        tokens, durations = own[..., : BLANK + 1].log_softmax(-1), own[..., BLANK + 1 :].log_softmax(-1)
        expected += by_hand(tokens, durations, labels, (0, 1, 2, 3, 4))
    summed = FAMILY.loss.summed(model, batch, type("Outputs", (), {"logits": logits}), 0.0)
    assert float(summed) == pytest.approx(expected, rel=1e-5)
    assert int(FAMILY.loss.items(batch["labels"])) == 4 + 3 + 6
    # transformers' own mean of means is another number of the same losses.
    model.eval()
    clip = {name: batch[name][1:2] for name in ("input_features", "attention_mask")}
    own = model(**clip, labels=torch.tensor([ids("▁bd")]), decoder_input_ids=torch.tensor([[BLANK, *ids("▁bd")]])).loss
    alone = FAMILY.make_collator(processor, model)(encoded(encoder, ["abc", "bd", "hello"])[1:2])
    torch.testing.assert_close(
        summed_tdt(model, alone, type("Outputs", (), {"logits": logits_of(model, alone)}), 0.0) / 3, own
    )


def test_fillers_count_nothing(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, configuration(tiny))
    rows, collate = encoded(encoder, ["abc", "hello"]), FAMILY.make_collator(processor, model)
    for filler in ([rows[0] | {"padding": True}], [rows[0] | {"error": "too_long: x"}]):
        model.zero_grad()
        batch = collate(filler)
        loss = FAMILY.loss.summed(model, batch, type("Outputs", (), {"logits": logits_of(model, batch)}), 0.0)
        loss.backward()
        assert (float(loss.detach()), int(FAMILY.loss.items(batch["labels"]))) == (0, 0)
        assert all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)
    sums = []
    for given in (rows, [*rows, rows[0] | {"padding": True}]):
        batch = collate(given)
        sums.append(FAMILY.loss.summed(model, batch, type("O", (), {"logits": logits_of(model, batch)}), 0.0))
    torch.testing.assert_close(sums[0], sums[1])
    sums[1].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.slow  # tests/models/test_family_matrix.py has two of the three cuts
def test_the_same_step_however_it_is_cut(tiny: Path, tmp_path: Path) -> None:
    curves = []
    for batch, accumulation in ((8, 1), (4, 2), (1, 8)):
        processor, model, encoder = load(FAMILY, configuration(tiny))
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        rows = encoded(encoder, TEXTS, seconds_a_letter=0.3)
        trainer = trainer_of(FAMILY, processor, model, rows, tmp_path / str(batch), learning_rate=0.01, **sizes)
        curves.append(curve(trainer))
    assert len(curves[0]) == 2
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
    np.testing.assert_allclose(curves[2], curves[0], rtol=1e-5)


def test_batch_norm_keeps_its_statistics(tiny: Path, tmp_path: Path) -> None:
    processor, model, encoder = load(FAMILY, configuration(tiny))
    norm = model.encoder.layers[0].conv.norm
    assert isinstance(norm, FixedBatchNorm)
    trainer_of(FAMILY, processor, model, encoded(encoder, TEXTS[2:4]), tmp_path).train()
    assert model.training
    torch.testing.assert_close(norm.running_mean, torch.zeros(24))
    assert int(norm.num_batches_tracked) == 0


def test_a_clip_is_written_as_it_is_alone(tiny: Path) -> None:
    processor, model, encoder = load(FAMILY, configuration(tiny))
    model.eval()
    rows, collate = encoded(encoder, TEXTS, seconds_a_letter=0.3), FAMILY.make_collator(processor, model)
    together = FAMILY.decode(model, processor, collate(rows), {})
    alone = [FAMILY.decode(model, processor, collate([row]), {})[0] for row in rows]
    assert together == alone
    assert len({len(text) for text in together}) > 1
    assert "<" not in "".join(together)


def test_learns_to_write_and_is_the_same_when_reloaded(tmp_path: Path) -> None:
    arguments = configuration(make_tiny_parakeet(tmp_path / "model", initializer_range=0.02))
    processor, model, encoder = load(FAMILY, arguments)
    rows = encoded(encoder, ["ab", "dcd", "ee f"], seconds_a_letter=0.3)
    options = {"optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 120}
    losses = [loss for loss, _ in curve(trainer_of(FAMILY, processor, model, rows, tmp_path, **options))]
    assert losses[-1] < 0.05 * losses[0]
    model.eval()
    batch = FAMILY.make_collator(processor, model)(rows)
    assert FAMILY.decode(model, processor, batch, {}) == ["ab", "dcd", "ee f"]
    saved = tmp_path / "best"
    model.save_pretrained(saved)
    processor.save_pretrained(saved)
    FAMILY.check_saved(saved, model)
    again, other, _ = load(FAMILY, configuration(saved))
    torch.testing.assert_close(logits_of(other.eval(), batch), logits_of(model, batch), rtol=0, atol=0)
    assert FAMILY.decode(other, again, batch, {}) == ["ab", "dcd", "ee f"]
    assert other.generation_config.suppress_tokens == [BLANK + place for place in range(1, 6)]
    stock = ParakeetForTDT.from_pretrained(saved).eval()
    torch.testing.assert_close(logits_of(stock, batch), logits_of(model, batch), rtol=0, atol=0)
    assert isinstance(ParakeetProcessor.from_pretrained(saved), ParakeetProcessor)


@pytest.mark.parametrize(
    ("text", "seconds", "said"),
    [
        ("a" * 70, 0.3, "label_too_long: 71 tokens, 4 encoder states can hold 30"),
        ("привет", 0.3, "not_in_vocabulary: the tokenizer has no token for 6 of 7 pieces"),
        ("abc", 31, "too_long: 31.00 s, data.max_seconds is 30"),
    ],
)
def test_clips_that_cannot_be_learnt(tiny: Path, text: str, seconds: float, said: str) -> None:
    _, _, encoder = load(FAMILY, configuration(tiny))
    assert encoder.encode(row_of("clip.wav", text), np.zeros(int(seconds * 16000), np.float32))["error"] == said


@pytest.mark.parametrize("group", sorted(FAMILY.freezable))
def test_every_group_is_there(tiny: Path, group: str) -> None:
    assert names_of_group(load(FAMILY, configuration(tiny))[1], FAMILY, group)


def test_what_a_user_is_told(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected none, since a Parakeet's joint network"):
        load(FAMILY, configuration(tiny, tokenizer_name_or_path=str(tiny)))
    with pytest.raises(UserError, match="expected a Parakeet-TDT tokenizer"):
        load(FAMILY, configuration("config:parakeet-tdt-0.6b-v3"))
    smoothed = configuration(tiny)
    smoothed.training["label_smoothing_factor"] = 0.1
    with pytest.raises(UserError, match="label_smoothing_factor: expected 0"):
        load(FAMILY, smoothed)
    with pytest.raises(UserError, match="durations begin with 0, found"):
        load(FAMILY, configuration(make_tiny_parakeet(tmp_path, durations=(1, 2))))
    processor, model, encoder = load(FAMILY, configuration(tiny))
    batch = FAMILY.make_collator(processor, model)(encoded(encoder, ["ab"]))
    with pytest.raises(UserError, match=r"evaluation\.generation: expected what generate takes, found"):
        FAMILY.decode(model, processor, batch, {"num_beams": 4})
