"""The trainer's invariants in one process: equal gradients for every cut, exact resume, frozen weights at rest."""

from __future__ import annotations

import json
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import build_rows, logged, make_trainer
from torch.testing import assert_close

from hf_asr.training.checkpoints import newest_checkpoint

CUTS = [(8, 1), (4, 2), (2, 4), (1, 8), (3, 3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two steps of 8 clips in one batch each."""
    trainer = make_trainer(tmp_path_factory.mktemp("whole"), batch=8, accumulation=1)
    trainer.train()
    return trainer


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("batch", "accumulation"), CUTS[1:4])
def test_every_cut_trains_the_same(tmp_path: Path, batch: int, accumulation: int, smoothing: float) -> None:
    runs = [
        make_trainer(tmp_path / str(cut), batch=cut[0], accumulation=cut[1], label_smoothing_factor=smoothing)
        for cut in ((8, 1), (batch, accumulation))
    ]
    for trainer in runs:
        trainer.train()
    reference, other = (logged(trainer) for trainer in runs)
    assert_close(torch.tensor(other), torch.tensor(reference), rtol=1e-5, atol=0)
    weights = [torch.cat([p.detach().flatten() for p in trainer.model.parameters()]) for trainer in runs]
    assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-7)


def test_a_partial_last_step_counts_its_own_tokens(tmp_path: Path) -> None:
    """11 clips in steps of 8: the second step has 3, and its loss is per token of those."""
    runs = []
    for cut in ((8, 1), (2, 4)):
        trainer = make_trainer(
            tmp_path / str(cut), batch=cut[0], accumulation=cut[1], rows=build_rows(11), max_steps=-1
        )
        trainer.train()
        runs.append(torch.tensor(logged(trainer)))
    assert runs[0].shape == (2, 2)
    assert_close(runs[1], runs[0], rtol=1e-5, atol=0)


def test_logged_loss_is_the_plain_mean_over_label_tokens(whole: Any, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, batch=8, accumulation=1)
    rows = build_rows()[:8]
    batch = trainer.data_collator(rows)
    with torch.no_grad():
        model = trainer.model.train()
        logits = model(input_features=batch["input_features"], decoder_input_ids=batch["decoder_input_ids"]).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
    assert_close(torch.tensor(logged(whole)[0][0]), expected, rtol=1e-5, atol=0)


def test_validation_loss_does_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    losses = [make_trainer(tmp_path / str(size), batch=size, accumulation=1).validation_loss() for size in (1, 3, 16)]
    assert_close(torch.tensor(losses), torch.full((3,), losses[0]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("sampling", ["random", "sequential"])
@pytest.mark.parametrize("stop_at", [3, 4, 7])
def test_a_resumed_training_logs_the_same_digits(tmp_path: Path, stop_at: int, sampling: str) -> None:
    """Logging every 3 steps, dropout on: the line after a resume at 4 covers steps of both runs."""
    common = {
        "rows": build_rows(21),
        "max_steps": 9,
        "logging_steps": 3,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 20,
        "dropout": 0.2,
        "train_sampling_strategy": sampling,
        "log_samples": True,
        "batch": 2,
        "accumulation": 2,
    }
    unbroken = make_trainer(tmp_path / "unbroken", **common)
    unbroken.train()
    folder = tmp_path / "broken" / "checkpoints"
    make_trainer(tmp_path / "broken", **common).train()
    for step in range(stop_at + 1, 10):
        (folder / f"checkpoint-{step}" / "model.safetensors").unlink()
    torch.manual_seed(999)
    resumed = make_trainer(tmp_path / "broken", **common)
    checkpoint = newest_checkpoint(folder)
    assert checkpoint is not None and checkpoint.name == f"checkpoint-{stop_at}"
    resumed.train(checkpoint)
    assert logged(resumed) == logged(unbroken)
    logs = [(tmp_path / name / "sample_ids.jsonl").read_text() for name in ("unbroken", "broken")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 9
    states = [trainer.model.state_dict() for trainer in (unbroken, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_every_clip_is_taken_once_an_epoch(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, batch=4, accumulation=2, rows=build_rows(21), max_steps=-1, log_samples=True)
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "sample_ids.jsonl").read_text().splitlines()]
    ids = [id for line in lines for id in line["ids"]]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert sorted(ids) == sorted(row["id"] for row in build_rows(21))


def test_a_broken_clip_is_skipped_counted_and_named_once(tmp_path: Path) -> None:
    rows = build_rows()
    rows[2] = {
        **rows[2],
        "error": "broken_audio: no data",
        "labels": [],
        "input_features": rows[2]["input_features"][:0],
    }
    trainer = make_trainer(tmp_path, batch=4, accumulation=1, rows=rows, max_steps=8, log_samples=True)
    trainer.train()
    assert trainer.drops.reasons == {"broken_audio": [("clip2", "no data")]}
    assert '"clip2"' not in (tmp_path / "sample_ids.jsonl").read_text()


def test_frozen_weights_are_bit_identical_after_training(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, batch=8, accumulation=1, freeze=["encoder"])
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any(name.startswith("model.encoder") for name in moved)


def test_groups_have_their_own_learning_rate(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, batch=8, accumulation=1, learning_rates={"encoder": 0.0}, weight_decay=0.0)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("model.encoder"))
    assert not torch.equal(before["model.decoder.layers.0.fc1.weight"], after["model.decoder.layers.0.fc1.weight"])


def test_checkpoints_carry_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("experiment: {}\n")
    trainer = make_trainer(tmp_path, batch=8, accumulation=1, save_strategy="steps", save_steps=1, save_total_limit=1)
    trainer.train()
    kept = list((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["checkpoint-2"]
    assert {"config.yaml", "running_loss_0.json", "optimizer.pt", "rng_state.pth"} <= {
        p.name for p in kept[0].iterdir()
    }


def test_the_best_and_the_last_checkpoint_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = chain([0.5, 0.2, 0.4], repeat(0.3))
    trainer = make_trainer(
        tmp_path,
        batch=4,
        accumulation=1,
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="wer",
        greater_is_better=False,
    )
    monkeypatch.setattr(trainer, "evaluate", lambda *_, **__: {"eval_wer": next(rates)})
    trainer.train()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["checkpoint-2", "checkpoint-4"]
    assert str(trainer.state.best_model_checkpoint).endswith("checkpoint-2")
