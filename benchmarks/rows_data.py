"""Rows of preparation: its time, its bytes on disk, the padding of training batches, and cost against size."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ours
import stock
from setting import Measured, Setting, alternate, clock, timed, with_folder
from transformers import WhisperProcessor

from hf_asr.profiling.resident import peak_rss_bytes

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


def scale(setting: Setting) -> list[dict[str, Any]]:
    """Listing, sampling and start-up at several numbers of clips, each in a process of its own."""
    setting = with_folder(setting, "scale")
    found = {size: _at_size(setting, size) for size in setting.scale}
    least, most = min(found), max(found)
    growth = {name: found[most][name] / found[least][name] for name in ("listing", "sampling", "start_up")}
    row = Measured({"ours": [found[most]["listing"] / most * 1e6]}, "microseconds a clip to list").row("scale", setting)
    return [row | {"sizes": {str(size): values for size, values in found.items()}, "growth": growth, "rounds": 1}]


def _at_size(setting: Setting, clips: int) -> dict[str, float]:
    folder = setting.folder / str(clips)
    folder.mkdir(exist_ok=True)
    audio = setting.speech.rows()[0]["path"]
    seconds = np.random.default_rng(0).uniform(1, 10, clips)
    lines = [f"clip{index}\t{audio}\tthe words\ts{index % 97}\t{length:.2f}" for index, length in enumerate(seconds)]
    manifest = folder / "manifest.tsv"
    manifest.write_text("id\tpath\ttext\tspeaker\tseconds\n" + "\n".join(lines) + "\n")
    command = [sys.executable, str(Path(__file__)), str(folder), str(manifest), str(setting.checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"scale at {clips} clips: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _in_own_process(folder: Path, manifest: Path, checkpoint: Path) -> None:
    """Print what one size takes: seconds, and megabytes at their highest."""
    from speech import Speech

    # The libraries' own start is the same at every size: what they take once is left out.
    setting = Setting(folder, Speech(manifest, 0, 5.0, 24, ""), checkpoint)
    keys = ["features.cache=false", f"data.batch_seconds={BATCH_SECONDS}", "training.per_device_train_batch_size=null"]
    arguments = ours.configuration(setting, *keys, "model.window=thinned", "data.columns={id: id, duration: seconds}")
    encoder = ours.load_encoder(arguments)
    start = clock()
    ours.prepared_splits(arguments, encoder, "train")
    listed = clock()
    made = ours.assemble(setting, *keys, "model.window=thinned", "data.columns={id: id, duration: seconds}")
    next(iter(made.trainer.get_train_dataloader()))
    started = clock()
    batches = sum(1 for _ in made.trainer.batch_sampler())
    sampled = clock()
    peak = peak_rss_bytes() / 2**20
    times = {"listing": listed - start, "start_up": started - listed, "sampling": sampled - started}
    print(json.dumps(times | {"batches": batches, "peak_rss_mb": peak}))


if __name__ == "__main__":
    _in_own_process(*(Path(argument) for argument in sys.argv[1:4]))
