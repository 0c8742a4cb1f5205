"""A training that failed kept SIGTERM, and a process forked then or while training did not end by it: a pool hung."""

from __future__ import annotations

import multiprocessing
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_training import build_rows, make_trainer
from transformers import TrainerCallback

from hf_asr.training.preemption import SaveWhenStopped


class Fails(TrainerCallback):
    """Ends the training by an error in its first step."""

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError("a step that fails")


class Forks(TrainerCallback):
    """Starts processes while training and ends each as a pool does, at once: some are not ready for a signal yet."""

    def __init__(self) -> None:
        self.codes: list[int | None] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        for _ in range(10):
            sleeper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            sleeper.start()
            sleeper.terminate()
            sleeper.join(10)
            self.codes.append(sleeper.exitcode)
            sleeper.kill()


def test_a_training_that_fails_gives_the_signal_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer = make_trainer(tmp_path, batch=2, accumulation=1, rows=build_rows(4))
    for callback in (SaveWhenStopped(), Fails()):
        trainer.add_callback(callback)
    try:
        with pytest.raises(ValueError, match="a step that fails"):
            trainer.train()
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_process_forked_while_training_ends_by_it(tmp_path: Path) -> None:
    stopping, forks = SaveWhenStopped(), Forks()
    trainer = make_trainer(tmp_path, batch=2, accumulation=1, rows=build_rows(4))
    for callback in (stopping, forks):
        trainer.add_callback(callback)
    trainer.train()
    assert forks.codes == [-signal.SIGTERM] * 20
    assert not stopping.asked
