"""Processes that wait for each other for ever: who is missing is told before the process group's timeout ends the run.

A collective operation that one process never enters keeps all others in it, and after ``training.ddp_timeout`` seconds
the backend ends them with a message that names an operation. Which process was missing, and in which step, only the
processes together know: each notes where it is in the store they met in, from a thread, so that one that waits or
computes for long still shows signs of life and one that is stopped, or whose machine is gone, does not.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_asr.utterance import Seconds

# Share of the timeout after which the missing are told: before the backend ends the processes, which cannot speak then.
TOLD_AT = 0.9
# Signs of life within one timeout, and the longest pause between two: 512 processes then write 51 keys a second.
SIGNS, LONGEST_PAUSE = 40, 10.0
# Processes named of those that are at one place.
NAMED = 8

READING, WAITING, COMPUTING, BETWEEN = (
    "reading its clips",
    "waiting with its clips read",
    "computing",
    "validating, saving or about to read",
)


@dataclass(frozen=True)
class Sign:
    """Where a process is.

    Attributes:
        step: Optimiser steps it has done.
        place: What it does.
        beats: Signs it has given; unchanged after two pauses, it is not alive.
    """

    step: int
    place: str
    beats: int


class Watch(TrainerCallback):
    """Notes where each process is, and tells who keeps the others waiting; does nothing for a single process.

    Args:
        rank: This process.
        processes: How many there are.
        timeout: After how many seconds the backend gives up.
        store: Where the signs are; by default the store of the process group, once training begins.
        tell: Is handed the message, on one of the processes.
    """

    def __init__(
        self,
        rank: int,
        processes: int,
        timeout: Seconds,
        store: torch.distributed.Store | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.rank, self.processes, self.timeout = rank, processes, timeout
        self.store = store
        self.tell = tell or _to_stderr
        self.told = ""
        self.pause = min(LONGEST_PAUSE, timeout / SIGNS)
        self._step, self._place, self._since, self._beats = 0, BETWEEN, time.monotonic(), 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def at(self, place: str) -> None:
        """Note what this process does now."""
        self._place, self._since = place, time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to give signs of life."""
        self._step = state.global_step
        self.at(BETWEEN)
        if self.processes > 1 and self._thread is None:
            self.store = self.store or _store_of_all()
            self._ended.clear()
            self._thread = threading.Thread(target=self._watch, name="hf_asr watch", daemon=True)
            self._thread.start()

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note that a step is computed."""
        self.at(COMPUTING)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Note that it is done."""
        self._step = state.global_step
        self.at(BETWEEN)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Give no more signs: what follows has no steps."""
        self.end()

    def end(self) -> None:
        """Stop the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        try:
            self._beat()  # at once: one that hangs in its first steps is then known to have begun
            while not self._ended.wait(self.pause):
                self._beat()
                if not self.told and time.monotonic() - self._since > TOLD_AT * self.timeout:
                    self._tell_who_is_missing()
        except RuntimeError:  # the store is gone, and with it the process that kept it: the launcher ends this one
            return

    def _beat(self) -> None:
        assert self.store is not None
        self._beats += 1
        self.store.set(_key(self.rank), json.dumps(asdict(Sign(self._step, self._place, self._beats))))

    def _tell_who_is_missing(self) -> None:
        """Tell it, on the first process that finds out; the others keep it to themselves."""
        assert self.store is not None
        before = self._signs()
        self._ended.wait(3 * self.pause)
        self._beat()
        after = self._signs()
        silent = {rank for rank, sign in after.items() if rank != self.rank and sign == before[rank]}
        self.told = message(after, silent, self._step + 1, time.monotonic() - self._since, self.timeout)
        first = self.store.compare_set(f"hf_asr/told/{self._step}", "", str(self.rank)).decode()
        if first == str(self.rank):
            self.tell(self.told)

    def _signs(self) -> dict[int, Sign | None]:
        """Return what each process last noted; None for one that never has."""
        assert self.store is not None
        found: dict[int, Sign | None] = {}
        for rank in range(self.processes):
            there = self.store.check([_key(rank)])
            found[rank] = Sign(**json.loads(self.store.get(_key(rank)))) if there else None
        return found


def message(signs: Mapping[int, Sign | None], silent: set[int], step: int, waited: Seconds, timeout: Seconds) -> str:
    """Return what to tell when a step does not end.

    Args:
        signs: What each process last noted.
        silent: Those that show no sign of life.
        step: The step that does not end.
        waited: For how long.
        timeout: When the backend gives up.
    """
    places: dict[str, list[int]] = {}
    for rank, sign in signs.items():
        where = f"after step {sign.step}, {sign.place}" if sign else "before its first step"
        places.setdefault(f"no sign of life {where}" if rank in silent else where, []).append(rank)
    # The odd ones first: most processes wait for few.
    ordered = sorted(places.items(), key=lambda item: (not item[0].startswith("no sign"), len(item[1])))
    told = "; ".join(f"{_named(ranks)}: {where}" for where, ranks in ordered)
    return (
        f"expected step {step} to end, found it unfinished after {waited:.0f} s (training.ddp_timeout is {timeout:g}). "
        f"{told}. When the time is over the run ends; look after that process or its machine, then go on with "
        "training.resume_from_checkpoint=true"
    )


def _named(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"process {ranks[0]}"
    named = ", ".join(map(str, ranks[:NAMED]))
    return f"{len(ranks)} processes ({named}{', ...' if len(ranks) > NAMED else ''})"


def _key(rank: int) -> str:
    return f"hf_asr/at/{rank}"


def _store_of_all() -> torch.distributed.Store:
    """Return a connection of our own to the store of the process group: one may block in the other."""
    group = torch.distributed.group.WORLD
    assert group is not None, "several processes without a process group"
    return group.get_group_store().clone()


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
