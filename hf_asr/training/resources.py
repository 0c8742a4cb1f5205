"""What a training took: time, peak memory, clips a second, and joules where this machine counts them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_asr.files import write_whole
from hf_asr.profiling.energy import joules_since, read_counters
from hf_asr.profiling.resident import peak_rss_bytes

RESOURCES = "resources.json"


class Resources(TrainerCallback):
    """Writes ``resources.json`` into the run folder when training ends; of the main process and its device alone.

    Validation is left out of the seconds. A training that was interrupted tells only what its last part took, so
    ``steps`` may be fewer than ``steps_in_all``.

    Args:
        run_dir: The run folder.
        clips: Tells at the end on how many clips all processes have trained; of a window of several, each counts.
    """

    def __init__(self, run_dir: Path, clips: Callable[[], int]) -> None:
        self.path = run_dir / RESOURCES
        self.clips = clips
        self.started = 0.0
        self.first_step = 0
        self.entries = 0
        self.counters: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note where the clock and the counters stand."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.counters = read_counters()
        self.first_step = state.global_step
        self.entries = len(state.log_history)
        self.started = time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the file; a resume that had nothing left to train leaves the earlier one."""
        steps = state.global_step - self.first_step
        if not state.is_world_process_zero or not steps:
            return
        whole = time.perf_counter() - self.started
        validation = sum(entry.get("eval_runtime", 0.0) for entry in state.log_history[self.entries :])
        seconds = whole - validation
        clips = self.clips()
        figures = {
            "train_seconds": seconds,
            "validation_seconds": validation,
            "steps": steps,
            "steps_in_all": state.global_step,
            "clips": clips,
            "clips_per_second": clips / seconds,
            "peak_rss_bytes": peak_rss_bytes(),
            "peak_gpu_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
            **joules_since(self.counters),
        }
        write_whole(self.path, json.dumps(figures, indent=2) + "\n")
