"""The row of memory: the second training step's peak above the bytes that were live before it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ours
import torch
from setting import Measured, Setting, with_folder
from speech import Speech
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

from hf_asr.profiling.resident import peak_rss_bytes

WINDOWS = {"ours": "thinned", "clip window": "clip", "full window": "full"}


class SecondStep(TrainerCallback):
    """Watches the second step's memory: on a CPU by the profiler's allocations, on a GPU by the allocator's peak."""

    def __init__(self) -> None:
        self.steps, self.peak, self.before = 0, 0, 0
        self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin to watch."""
        self.steps += 1
        if self.steps == 2 and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        elif self.steps == 2:
            self.profiler.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the peak."""
        if self.steps == 2 and torch.cuda.is_available():
            self.peak = torch.cuda.max_memory_allocated() - self.before
        elif self.steps == 2:
            self.profiler.stop()
            self.peak = highest(self.profiler)


def highest(profiler: Any) -> int:
    """Return the most bytes live above the start, of the profiler's allocations in their order."""
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most


def peak_memory(setting: Setting) -> list[dict[str, Any]]:
    """Stock and ours, each in a process of its own."""
    setting = with_folder(setting, "peak_memory")
    found = {side: _in_process(setting, side) for side in ("stock", *WINDOWS)}
    measured = Measured({side: [values["peak"] / 1e6] for side, values in found.items()}, "MB above the model")
    measured.about = {
        "window": ours.shipped_window(setting),
        "what": "second step's peak above the bytes live before it, gradients included",
        "peak_rss_mb": {side: values["rss_mb"] for side, values in found.items()},
    }
    return [measured.row("peak_memory", setting)]


def _in_process(setting: Setting, side: str) -> dict[str, float]:
    speech = setting.speech
    given = {"folder": str(setting.folder / side), "manifest": str(speech.manifest), "side": side}
    given |= {"checkpoint": str(setting.checkpoint), "batch": setting.batch, "clips": speech.clips}
    given |= {"label_tokens": speech.label_tokens}
    command = [sys.executable, str(Path(__file__)), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"peak_memory, {side}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(given: dict[str, Any]) -> None:
    """Train two steps and print the peak."""
    import rows_training

    folder = Path(given["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    speech = Speech(Path(given["manifest"]), given["clips"], 5.0, given["label_tokens"], "")
    setting = Setting(folder, speech, Path(given["checkpoint"]), batch=given["batch"])
    if given["side"] == "stock":
        trainer = rows_training.stock_trainer(setting)
    else:
        trainer = rows_training.our_trainer(setting, f"model.window={WINDOWS[given['side']]}")
    watch = SecondStep()
    trainer.add_callback(watch)
    trainer.train()
    print(json.dumps({"peak": watch.peak, "rss_mb": peak_rss_bytes() / 2**20}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
