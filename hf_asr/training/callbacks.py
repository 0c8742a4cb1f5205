"""What happens beside the training steps: progress, logs, metrics per epoch, the sample log."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from hf_asr.files import write_whole

logger = logging.getLogger(__name__)

SAMPLE_LOG = "sample_ids.jsonl"
EPOCH_METRICS = "metrics_on_all_epochs.json"


class FinalEvaluation(TrainerCallback):
    """Evaluates (and saves) once more at the last step, so that the last weights can become the best ones."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for the evaluation that ``max_steps`` would cut off."""
        if state.global_step >= state.max_steps and args.eval_strategy == IntervalStrategy.STEPS:
            control.should_evaluate = True
        if state.global_step >= state.max_steps and args.save_strategy == IntervalStrategy.STEPS:
            control.should_save = True
        return control


class EpochMetrics(TrainerCallback):
    """Keeps ``metrics_on_all_epochs.json`` in the run folder: one entry an evaluation, with the loss before it."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / EPOCH_METRICS

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the table anew from the state's history, which a resume brings back."""
        if state.is_world_process_zero:
            write_whole(self.path, json.dumps(evaluations(state.log_history), indent=2) + "\n")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cut what a killed run had written after the checkpoint that is resumed from."""
        if state.is_world_process_zero:
            write_whole(self.path, json.dumps(evaluations(state.log_history), indent=2) + "\n")


def evaluations(history: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the evaluations of a log history, each with the training loss and rate logged last before it."""
    rows: list[dict[str, Any]] = []
    training: dict[str, Any] = {}
    for entry in history:
        if "eval_loss" in entry:
            rows.append({**training, **entry})
        elif "loss" in entry:
            training = {name: entry[name] for name in ("loss", "grad_norm", "learning_rate") if name in entry}
    return rows


class SampleLog(TrainerCallback):
    """Appends one line a step and rank to ``sample_ids.jsonl``: which clips the step was trained on."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / SAMPLE_LOG

    def cut_after(self, step: int) -> None:
        """Remove lines of steps after ``step``, and a half-written last line: they are trained again."""
        if not self.path.is_file():
            return
        kept = [line for line in self.path.read_text().split("\n") if line and line_step(line) <= step]
        write_whole(self.path, "".join(line + "\n" for line in kept))

    def append(self, step: int, ids_by_rank: list[list[str]]) -> None:
        """Write the lines of one step; called on the main process with every rank's ids."""
        with self.path.open("a", encoding="utf-8") as file:
            for rank, ids in enumerate(ids_by_rank):
                file.write(json.dumps({"step": step, "rank": rank, "ids": ids}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cut the log to the checkpoint that is resumed from."""
        if state.is_world_process_zero:
            self.cut_after(state.global_step)


def line_step(line: str) -> float:
    """Return the step of a sample-log line; infinity for one that was cut off in the middle."""
    try:
        return int(json.loads(line)["step"])
    except ValueError:
        return float("inf")


class RichProgress(TrainerCallback):
    """A progress bar with the loss on the main process, and every log line in the run's log."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.task: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar at the step that training begins with."""
        if not state.is_world_process_zero:
            return
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
        )
        console = Console(stderr=True)
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step, shown="")
        self.bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar; its end moves where a stream turns out shorter than it said."""
        if self.bar:
            self.bar.update(self.task, completed=state.global_step, total=state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss beside the bar and write the line to the log."""
        if not state.is_world_process_zero or not logs:
            return
        shown = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if isinstance(value, (int, float)))
        logger.info("step %d of %d: %s", state.global_step, state.max_steps, shown)
        if self.bar and "loss" in logs:
            self.bar.update(self.task, shown=f"loss {logs['loss']:.3f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self.bar:
            self.bar.update(self.task, total=state.max_steps)
            self.bar.stop()
            self.bar = None
