"""Rows of preparation: its time, its bytes on disk, and the padding of training batches."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ours
import stock
from setting import Measured, Setting, alternate, timed, with_folder
from transformers import WhisperProcessor

CLIPS = 64
BATCH_SECONDS = 240


def prepare(setting: Setting) -> list[dict[str, Any]]:
    """Features for training from MP3, one process on either side, and the bytes that they take on disk."""
    return _preparation(setting)[:1]


def cache_bytes(setting: Setting) -> list[dict[str, Any]]:
    """Bytes on disk a clip."""
    return _preparation(setting)[1:]


def _preparation(setting: Setting) -> list[dict[str, Any]]:
    setting = with_folder(setting, "prepare")
    clips = min(CLIPS, setting.speech.clips)
    rows, processor = setting.speech.rows()[:clips], WhisperProcessor.from_pretrained(setting.checkpoint)
    arguments = ours.configuration(setting, f"data.limit.train={clips}", "features.num_proc=1")
    encoder = ours.load_encoder(arguments)
    arrow, cache = setting.folder / "stock.arrow", Path(arguments.features.cache_dir)
    arrow.parent.mkdir(exist_ok=True)
    sides: dict[str, Callable[[], Any]] = {
        "stock": lambda: stock.prepare(rows, processor, arrow),
        "ours": lambda: _prepared_anew(arguments, encoder, cache),
    }
    for work in sides.values():
        work()  # imports, the resampler's filter, the file system's cache
    costs = alternate({side: timed(work, clips) for side, work in sides.items()}, setting.rounds)
    measured = Measured(costs, "seconds a clip", {"clips": clips, "processes": 1})
    bytes_ = {"stock": _size(arrow) / clips, "ours": _size(cache) / clips}
    disk = Measured({side: [value] for side, value in bytes_.items()}, "bytes a clip", {"clips": clips})
    return [measured.row("prepare", setting), disk.row("cache_bytes", setting)]


def _prepared_anew(arguments: Any, encoder: Any, cache: Path) -> None:
    shutil.rmtree(cache, ignore_errors=True)
    ours.prepared_splits(arguments, encoder, "train")


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def padding(setting: Setting) -> list[dict[str, Any]]:
    """Share of padded seconds in training batches of ``data.batch_seconds``; the stock recipe's windows beside it."""
    setting = with_folder(setting, "padding")
    keys = ["features.cache=false", f"data.batch_seconds={BATCH_SECONDS}", "training.per_device_train_batch_size=null"]
    if setting.real is not None:
        keys += ["data.corpus=gigaspeech", f"data.path={setting.real / 'gigaspeech_layout'}", "data.subset=XL"]
        keys += ["data.splits={train: XL}", "data.columns={}"]
    shares = {}
    for window in ("clip", "thinned"):
        sampler = ours.assemble(setting, *keys, f"model.window={window}").trainer.batch_sampler()
        shares[window] = sampler.padding(0)
    made = ours.assemble(setting, *keys)
    seconds = np.asarray(made.prepared["train"].column("duration"))
    silence = float(1 - seconds.mean() / 30)
    row = Measured({"ours": [max(shares.values())]}, "share of padded seconds").row("padding", setting)
    more = {"clips": len(seconds), "mean_seconds": float(seconds.mean()), "by_window": shares}
    return [row | {"stock": silence, "ratio": None, "batch_seconds": BATCH_SECONDS, **more}]
