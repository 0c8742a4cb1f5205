"""SIGTERM saves: a scheduler that wants its machine back (Slurm, Kubernetes, spot instances) gets a checkpoint."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# What a shell reports for a program that SIGTERM ended.
STOPPED = 128 + signal.SIGTERM


class SaveWhenStopped(TrainerCallback):
    """Saves a checkpoint at the end of the step in which SIGTERM came to any process, then ends the run.

    The checkpoint is one like any other: a resumed run goes on as if it had never been stopped.
    """

    def __init__(self) -> None:
        self.asked = False
        self.stopping = False
        self.before: Any = None

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Take the signal over; only a program's main thread can."""
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGTERM, self._note)
            _holders.append(self)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for a checkpoint when any process was told to stop: all must save together."""
        self.stopping = self._anyone_asked()
        if self.stopping:
            control.should_save, control.should_evaluate = True, False
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End the run once the checkpoint is whole.

        Raises:
            SystemExit: The run was told to stop.
        """
        if self.stopping:
            if state.is_world_process_zero:
                print(
                    f"told to stop (SIGTERM): checkpoint-{state.global_step} is saved. To go on with this run: "
                    "training.resume_from_checkpoint=true",
                    file=sys.stderr,
                    flush=True,
                )
            raise SystemExit(STOPPED)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Give the signal back."""
        self.give_back()

    def give_back(self) -> None:
        """Give the signal back, where it was taken: a training that fails has no end of its own."""
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)
            self.before = None
            _holders.remove(self)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def _anyone_asked(self) -> bool:
        state = PartialState()
        if state.num_processes == 1:
            return self.asked
        told: torch.Tensor = gather(torch.tensor([int(self.asked)], device=state.device))
        return bool(told.max())


# A process forked while training must end by SIGTERM, which is how a pool ends its workers. Python drops a signal that
# comes to a new process before its interpreter is ready, so it waits until what was there before training is back.
_holders: list[SaveWhenStopped] = []
_unblocked = threading.local()


def _before_a_fork() -> None:
    _unblocked.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _after_it() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _unblocked.mask)


def _after_it_in_the_new_process() -> None:
    for holder in list(_holders):
        holder.give_back()
    _after_it()


os.register_at_fork(before=_before_a_fork, after_in_parent=_after_it, after_in_child=_after_it_in_the_new_process)
