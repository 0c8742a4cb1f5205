"""A resume with another batch, seed or data went on silently, and clips came twice or never; others were tracebacks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.outcomes import Attack, sample_ids
from helpers.tiny_release import Release, make_release
from helpers.tiny_whisper import make_tiny_whisper

RESUME = ("training.resume_from_checkpoint=true", "evaluation.baseline=false")
REFUSED: dict[str, tuple[list[str], str]] = {
    "batch": (["training.per_device_train_batch_size=2"], "the number of clips in a step (batch x accumulation x"),
    "accumulation": (["training.gradient_accumulation_steps=3"], "is 12, was 4"),
    "seed": (["experiment.seed=1"], "experiment.seed is 1, was 42"),
    "order": (["training.train_sampling_strategy=sequential"], "is sequential, was random"),
    "fewer clips": (["data.limit.train=5"], "expected the 6 clips that"),
    "a stream": (["data.streaming=true"], "data.streaming is True, was False"),
    "adapters": (["peft.method=lora"], "peft.method is lora, was none"),
    "frozen": (["freeze.groups=[encoder]"], "freeze.groups is ['encoder'], was []"),
    "optimiser": (["training.optim=sgd"], "training.optim is sgd, was not given"),
    "learning rate": (["training.learning_rate=1e-4"], "training.learning_rate is 0.0001, was 0.001"),
    "a run folder": (["training.resume_from_checkpoint=RUN"], "expected true or the folder of a whole checkpoint"),
    "no such folder": (["training.resume_from_checkpoint=/nowhere"], "trainer_state.json cannot be read"),
    "other weights": (["model.name_or_path=OTHER"], "expected weights of this model"),
}
ALLOWED = {
    "as it was": [],
    "cut otherwise": ["training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=2"],
    "more steps": ["training.max_steps=5"],
    "another batch for decoding": ["evaluation.batch_size=2"],
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, model: Path, attack: Attack) -> Release:
    """A run of which only the checkpoint of its first step is left."""
    steps = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 3}
    release = make_release(tmp_path_factory.mktemp("stopped"), model, **steps)
    attack.finetune(release.yaml, "evaluation.baseline=false", "training.save_total_limit=9").assert_done()
    for step in (2, 3):
        shutil.rmtree(release.yaml.parent / "runs" / "attacked" / "checkpoints" / f"checkpoint-{step}")
    return release


@pytest.fixture
def run(stopped: Release, tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(stopped.yaml.parent / "runs" / "attacked", tmp_path / "attacked"))


@pytest.mark.parametrize("change", REFUSED)
def test_what_would_change_the_training_is_refused(
    attack: Attack, stopped: Release, run: Path, change: str, tmp_path: Path
) -> None:
    overrides, words = REFUSED[change]
    if change == "other weights":
        make_tiny_whisper(tmp_path / "OTHER", d_model=32)
    overrides = [word.replace("RUN", str(run)).replace("OTHER", str(tmp_path / "OTHER")) for word in overrides]
    outcome = attack.finetune(stopped.yaml, *RESUME, f"experiment.output_dir={tmp_path}", *overrides)
    outcome.assert_refused("training.resume_from_checkpoint: expected", words)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["checkpoint-1"]


@pytest.mark.parametrize("change", ALLOWED)
def test_what_leaves_it_as_it_was_is_not(
    attack: Attack, stopped: Release, run: Path, change: str, tmp_path: Path
) -> None:
    attack.finetune(stopped.yaml, *RESUME, f"experiment.output_dir={tmp_path}", *ALLOWED[change]).assert_done()
    first, second = sample_ids(run)[:6], sample_ids(run)[6:12]
    assert len(set(first)) == 6 and set(second) <= set(first)


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "running_loss_0.json", "trainer_state.json"])
def test_a_damaged_checkpoint_is_passed_over(
    attack: Attack, stopped: Release, run: Path, file: str, tmp_path: Path
) -> None:
    damaged = run / "checkpoints" / "checkpoint-1" / file
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    outcome = attack.finetune(stopped.yaml, *RESUME, f"experiment.output_dir={tmp_path}")
    outcome.assert_done()
    assert "passed over" in outcome.err and file in outcome.err
    assert len(sample_ids(run)) == 6 + 4  # three steps, from the start
