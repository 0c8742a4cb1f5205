"""Training on a stream: epochs that end where they end, and resuming as if never stopped."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.held_lock import held_by_another
from helpers.tiny_training import build_rows, logged, make_trainer
from rich.console import Console
from transformers import TrainerCallback

from hf_asr.data.stream import Stream
from hf_asr.data.stream_order import Shuffle
from hf_asr.errors import UserError
from hf_asr.features.collate import Seq2SeqCollator, WindowPadder
from hf_asr.features.streamed import FILLER_ROW, StreamRows
from hf_asr.files import lock_run
from hf_asr.training import callbacks
from hf_asr.training.preemption import STOPPED, SaveWhenStopped
from hf_asr.training.trainer import SpeechTrainer

CLIPS = build_rows(13)
EVERY_STEP = {"save_strategy": "steps", "save_steps": 1, "max_steps": -1, "num_train_epochs": 2, "dropout": 0.1}


@dataclass
class Clips:
    """13 clips in shards of 3."""

    by_shard: bool
    told: int = len(CLIPS)
    failed: dict[str, str] = field(default_factory=dict)
    drops: list[tuple[str, str]] = field(default_factory=list)
    num_shards: int = 5

    @property
    def expected(self) -> int:
        return self.told

    def size(self, index: int) -> int:
        return len(CLIPS[3 * index : 3 * index + 3])

    def promised(self, index: int) -> int:
        return self.size(index) + (self.told - len(CLIPS)) * (index == 0)

    def seconds(self, index: int, row: int) -> float:
        return 0.4

    def soon(self, index: int) -> None:
        """Nothing to open."""

    def row(self, index: int, row: int) -> dict[str, Any]:
        return CLIPS[3 * index + row]


def trainer_of(folder: Path, *, by_shard: bool = True, told: int = len(CLIPS), **changes: Any) -> SpeechTrainer:
    rows: Any = StreamRows(Stream([Clips(by_shard, told)], Shuffle(3, 4)), dict)
    return make_trainer(folder, batch=2, accumulation=2, rows=rows, log_samples=True, **{**EVERY_STEP, **changes})


def ids_of(folder: Path) -> list[str]:
    lines = (folder / "sample_ids.jsonl").read_text().splitlines()
    return [id for line in lines for id in json.loads(line)["ids"]]


@pytest.fixture(scope="module", params=[True, False], ids=["shards", "listed"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Path, SpeechTrainer]:
    folder = tmp_path_factory.mktemp("whole")
    trainer = trainer_of(folder, by_shard=request.param)
    trainer.train()
    return request.param, folder, trainer


def test_epochs_have_every_clip_once_and_steps_are_known(whole: tuple[bool, Path, SpeechTrainer]) -> None:
    _, folder, trainer = whole
    ids = ids_of(folder)
    assert trainer.state.global_step == trainer.state.max_steps == 8
    assert trainer.state.epoch == pytest.approx(2)
    assert sorted(ids[:13]) == sorted(ids[13:]) == sorted(row["id"] for row in CLIPS) and ids[:13] != ids[13:]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [2, 4, 7])
def test_resumed_is_never_stopped(
    whole: tuple[bool, Path, SpeechTrainer], tmp_path: Path, step: int, workers: int
) -> None:
    by_shard, folder, never_stopped = whole
    lines = (folder / "sample_ids.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "sample_ids.jsonl").write_text("".join(lines[: step + 1]) + '{"step": 9, "ra')
    trainer = trainer_of(tmp_path, by_shard=by_shard, dataloader_num_workers=workers)
    trainer.train(folder / "checkpoints" / f"checkpoint-{step}")
    assert logged(trainer) == logged(never_stopped)
    assert (tmp_path / "sample_ids.jsonl").read_text() == "".join(lines)


def test_another_number_of_processes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer_of(tmp_path / "a").train()
    checkpoint = tmp_path / "a" / "checkpoints" / "checkpoint-2"
    (checkpoint / "environment.json").write_text('{"processes": 2}')
    with pytest.raises(
        UserError, match=r"data\.resume: expected the 2 processes .* found 1: .*data\.resume=approximate"
    ):
        trainer_of(tmp_path / "b").train(checkpoint)
    trainer = trainer_of(tmp_path / "c")
    trainer.resume_approximately = True
    with caplog.at_level(logging.WARNING):
        trainer.train(checkpoint)
    assert "Epoch 0 begins anew: its first 2 steps, about 16 clips, come a second time" in caplog.text
    assert sorted(ids_of(tmp_path / "c")[:13]) == sorted(row["id"] for row in CLIPS)
    listed = trainer_of(tmp_path / "d", by_shard=False)
    listed.train(checkpoint)  # its order is the same for any number
    assert listed.state.global_step == 8


@pytest.mark.parametrize("told", [9, 30])
def test_a_stream_that_is_not_as_long_as_it_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, told: int) -> None:
    trainer = trainer_of(tmp_path, told=told, save_strategy="no")
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert f"the stream had 13 clips in epoch 0, {told} were expected: training follows what is there" in caplog.text
    assert ("and ends after about 8 steps, not 16" in caplog.text) == (told == 30)
    ids = ids_of(tmp_path)
    assert sorted(ids[:13]) == sorted(row["id"] for row in CLIPS)
    assert trainer.state.global_step == trainer.state.max_steps == (8 if told == 30 else 6)


@pytest.mark.parametrize("told", [9, 13, 30])
def test_the_progress_bar_ends_where_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: int) -> None:
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, force_interactive=True, width=120)
    monkeypatch.setattr(callbacks, "Console", lambda **kind: terminal)
    trainer = trainer_of(tmp_path, told=told, save_strategy="no")
    trainer.add_callback(callbacks.RichProgress())
    trainer.train()
    steps = trainer.state.global_step
    shown = re.findall(r"(\d+)/(\d+)", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue()))
    assert (str(steps), str(steps)) == shown[-1]
    assert [int(step) for step, _ in shown] == sorted(int(step) for step, _ in shown)


def test_a_rank_without_a_clip_gets_a_batch_that_counts_nothing() -> None:
    batch = Seq2SeqCollator(WindowPadder(40, 8), 57, 58)([FILLER_ROW])
    assert (batch["labels"] == -100).all() and batch["ids"] == [] and batch["skipped"] == []


class Terminate(TrainerCallback):
    """Sends this process SIGTERM in a step."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_saves_and_the_run_goes_on_as_if_nothing_had_been(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never_stopped = trainer_of(tmp_path / "whole", save_strategy="no")
    never_stopped.train()
    before = signal.getsignal(signal.SIGTERM)
    trainer = trainer_of(tmp_path / "stopped", save_strategy="no")
    trainer.add_callback(SaveWhenStopped())
    trainer.add_callback(Terminate())
    with pytest.raises(SystemExit) as stopped:
        trainer.train()
    assert signal.getsignal(signal.SIGTERM) is before
    assert stopped.value.code == STOPPED == 143
    assert (
        "checkpoint-5 is saved. To go on with this run: training.resume_from_checkpoint=true" in capsys.readouterr().err
    )
    resumed = trainer_of(tmp_path / "stopped", save_strategy="no")
    resumed.train(tmp_path / "stopped" / "checkpoints" / "checkpoint-5")
    assert logged(resumed) == logged(never_stopped)


def test_two_programs_do_not_train_into_one_folder(tmp_path: Path) -> None:
    with (
        held_by_another(tmp_path),
        pytest.raises(UserError, match="no other program trains into, found one at work in"),
    ):
        lock_run(tmp_path)
    lock_run(tmp_path)
