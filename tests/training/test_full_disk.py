"""A disk that is full at any moment of a training: what is resumed with room is what was never stopped."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from helpers.tiny_training import build_rows, logged, make_trainer

from hf_asr.data.stream import ListedSource, Stream
from hf_asr.data.stream_order import Shuffle
from hf_asr.features.streamed import StreamRows
from hf_asr.training.checkpoints import newest_checkpoint
from hf_asr.training.trainer import SpeechTrainer

CLIPS = build_rows(13)
# Flushes that go well in each attempt: the disk is full in the sample log, in the files of a checkpoint, behind its
# rename, and in the same again.
ATTEMPTS = (0, 9, 20, 1)


def train(folder: Path, way: str, resume: Path | None = None) -> SpeechTrainer:
    """Train 8 steps in 2 epochs with dropout, saving at every step."""
    rows: Any = CLIPS
    if way == "stream":
        source = ListedSource(Dataset.from_dict({"clip": list(range(len(CLIPS)))}), in_order=False)
        rows = StreamRows(Stream([source], Shuffle(3, 4)), lambda row: CLIPS[row["clip"]])
    saved = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2, "max_steps": -1, "num_train_epochs": 2}
    trainer = make_trainer(
        folder,
        batch=2,
        accumulation=2,
        rows=rows,
        dropout=0.1,
        log_samples=True,
        train_sampling_strategy="random",
        **saved,
    )
    trainer.train(resume)
    return trainer


def full_after(times: int) -> Callable[[int], None]:
    """Return a flush that finds the disk full once it has been called so many times."""
    left, flush = [times], os.fsync

    def fake(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    return fake


@pytest.mark.parametrize("way", ["table", "stream"])
def test_any_moment(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tmp_path / "whole", way)
    full = tmp_path / "full"
    steps = []
    for times in ATTEMPTS:
        checkpoint = newest_checkpoint(full / "checkpoints")
        steps.append(int(checkpoint.name.partition("-")[2]) if checkpoint else 0)
        with monkeypatch.context() as broken, pytest.raises(OSError, match="No space left"):
            broken.setattr(os, "fsync", full_after(times))
            train(full, way, checkpoint)
    assert steps == sorted(steps) and steps[-1] > 0, "each attempt goes on from the newest whole checkpoint"
    resumed = train(full, way, newest_checkpoint(full / "checkpoints"))
    assert logged(resumed) == logged(whole)
    logs = [(folder / "sample_ids.jsonl").read_text() for folder in (full, tmp_path / "whole")]
    assert logs[0] == logs[1] and logs[0].count("\n") == 8
