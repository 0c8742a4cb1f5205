"""Every row of benchmarks/run.py runs through both sides, and says what a reader needs."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

COMMON = {"name", "stock", "ours", "ratio", "unit", "rounds", "spread", "hardware", "speech", "batch"}
# Rows that start processes of their own, which import everything anew.
SLOW = ("scale", "peak_memory", "job_bank", "prepare")

# What takes the same roads as train_full.
LONGER = [pytest.param(name, marks=pytest.mark.slow) for name in ("train_clip", "roofline")]


def rows_of(name: str, setting: Any) -> list[dict[str, Any]]:
    run = importlib.import_module("run")
    return list(getattr(importlib.import_module(run.ROWS[name][0]), name)(setting))


@pytest.mark.parametrize("name", ["train_full", "train_bank", "cache_bytes", "evaluate", *LONGER])
def test_a_row(name: str, micro: Any) -> None:
    (row,) = rows_of(name, micro)
    assert row.keys() >= COMMON and row["name"] == name
    assert row["ours"] > 0 and row["stock"] > 0
    assert row["speech"] == "tones" and row["hardware"]["threads"] >= 1
    if name in ("train_bank", "evaluate"):
        assert row["window"].startswith("thinned, stride 10 in runs of 10")
    if name in ("train_full", "roofline"):  # the window that passed gate b
        assert row["window"].startswith("thinned, stride 20 in runs of 10")
    if name == "train_full":
        assert set(row["beside"]) == {"stride 5", "stride 10"}
    if name == "train_bank":
        assert set(row["beside"]) == {"full window"}
    if name == "train_clip":
        assert set(row["beside"]) == {"window_mix 0.2", "ours, full window"}
        assert row["whole_windows_of_mix"].endswith(" of 10 steps")
    if name == "evaluate":
        assert row["identical_to_unsorted_and_unbatched"]["full window"] == 1 and row["label_tokens"] > 2
    if name == "cache_bytes":
        assert row["ratio"] == pytest.approx(row["stock"] / row["ours"])


def test_clips_of_packed_windows_are_counted_one_by_one(micro: Any) -> None:
    """Windows of 4 s hold two of the clips of 1.5 s: a step of two windows is trained on four clips."""
    (row,) = rows_of("train_pack", micro)
    assert row["clips_a_step"] == {"stock": 2, "ours": 4, "shipped share": row["clips_a_step"]["shipped share"]}
    assert row["ratio"] == pytest.approx(row["stock"] / row["ours"]) and "shipped share" in row["beside"]


def test_steps_of_the_full_window_are_counted(micro: Any) -> None:
    """What the mix is measured with: the first step is not timed, and the share of the others is known."""
    ours, rows = importlib.import_module("ours"), importlib.import_module("rows_training")
    keys = ("model.window=clip", "model.window_mix=0.6", f"training.max_steps={1 + rows.MIXED}")
    trainer = ours.assemble(micro, *keys).trainer
    whole = rows.WholeWindows(trainer)
    trainer.train()
    assert len(whole.frames) == 1 + rows.MIXED and set(whole.frames) == {192, 400}
    assert whole.timed() == whole.frames[1:].count(400)


def test_the_bank_is_timed_in_its_second_epoch() -> None:
    """Of three steps an epoch, those of the second count."""
    setting = importlib.import_module("setting")
    ends = [0.0, 50.0, 100.0, 101.0, 103.0, 106.0]

    class Trained:
        def add_callback(self, times: Any) -> None:
            self.times = times

        def train(self) -> None:
            self.times.ends = list(ends)

    assert setting.step_timer(Trained(), untimed=3)() == 2.0
    assert setting.step_timer(Trained())() == pytest.approx(106 / 5)


def test_padding_has_no_ratio(micro: Any) -> None:
    (row,) = rows_of("padding", micro)
    assert row["ratio"] is None and 0 <= row["ours"] <= 0.08
    assert row["by_window"].keys() == {"clip", "thinned"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_row_in_processes_of_its_own(name: str, micro: Any) -> None:
    (row,) = rows_of(name, micro)
    assert row.keys() >= COMMON and row["ours"] > 0
    if name == "peak_memory":
        assert row["ratio"] > 1 and row["window"].startswith("thinned, stride 10") and row["peak_rss_mb"]["stock"] > 100
    elif name == "scale":
        assert row["sizes"].keys() == {"5", "10"} and row["sizes"]["10"]["batches"] >= 1
        assert row["sizes"]["10"]["cache_mb"] > row["sizes"]["5"]["cache_mb"] > 0
        picture = micro.folder / "scale.png"
        importlib.import_module("rows_scale").draw([row], picture)
        assert picture.stat().st_size > 10_000
