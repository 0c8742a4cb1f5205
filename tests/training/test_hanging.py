"""Who keeps the others waiting is told once, before the backend's timeout, with process and step."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import HashStore

from hf_asr.training.hanging import BETWEEN, COMPUTING, READING, WAITING, Sign, Watch, message


def until(happened: Any, seconds: float = 20.0) -> None:
    """Wait for another thread."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def begin(watch: Watch, step: int) -> None:
    watch.on_train_begin(None, SimpleNamespace(global_step=step), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("signs", "silent", "told"),
    [
        (
            {0: Sign(12, COMPUTING, 9), 1: Sign(12, COMPUTING, 4)},
            {1},
            "process 1: no sign of life after step 12, computing; process 0: after step 12, computing.",
        ),
        (
            {0: Sign(12, WAITING, 9), 1: Sign(12, READING, 4), 2: Sign(12, WAITING, 9)},
            set(),
            "process 1: after step 12, reading its clips; 2 processes (0, 2): after step 12, waiting with ",
        ),
        (
            {0: None, 1: Sign(0, BETWEEN, 1)},
            {0},
            "process 0: no sign of life before its first step; process 1: after step 0, validating",
        ),
    ],
)
def test_the_odd_ones_are_named_first(signs: dict[int, Sign | None], silent: set[int], told: str) -> None:
    text = message(signs, silent, 13, 108.2, 120)
    assert told in text
    assert text.startswith("expected step 13 to end, found it unfinished after 108 s (training.ddp_timeout is 120). ")
    assert text.endswith("training.resume_from_checkpoint=true")


def test_of_many_processes_few_are_named() -> None:
    text = message({rank: Sign(5, WAITING, 1) for rank in range(512)}, set(), 6, 1, 2)
    assert "512 processes (0, 1, 2, 3, 4, 5, 6, 7, ...): after step 5" in text


def test_one_of_two_hangs() -> None:
    store, told = HashStore(), list[str]()
    watches = [Watch(rank, 2, 2.0, store, told.append) for rank in (0, 1)]
    for watch in watches:
        begin(watch, 12)
    until(lambda: store.check(["hf_asr/at/0", "hf_asr/at/1"]))
    watches[1].end()  # as if it had been stopped
    watches[0].at(COMPUTING)
    until(lambda: told)
    time.sleep(0.3)
    watches[0].end()
    assert len(told) == 1 and watches[0].told == told[0]
    assert told[0].startswith("expected step 13 to end, found it unfinished after ")
    assert "process 1: no sign of life after step 12" in told[0]


def test_all_find_out_and_one_tells() -> None:
    store, told = HashStore(), list[str]()
    watches = [Watch(rank, 3, 1.0, store, told.append) for rank in range(3)]
    for watch in watches:
        begin(watch, 4)
    watches[2].at(READING)
    until(lambda: all(watch.told for watch in watches))
    for watch in watches:
        watch.end()
    assert len(told) == 1  # on a busy machine a thread may miss its pauses of 25 ms: then it shows no sign of life
    assert re.search("process 2: (no sign of life )?after step 4, reading its clips", told[0])


def test_steps_that_end_tell_nothing() -> None:
    told: list[str] = []
    watch = Watch(0, 2, 1.5, HashStore(), told.append)
    begin(watch, 0)
    for step in range(1, 90):
        watch.on_step_begin()
        time.sleep(0.02)
        watch.on_step_end(None, SimpleNamespace(global_step=step), None)  # type: ignore[arg-type]
    watch.on_train_end()
    assert not told and not watch.told


def test_the_first_sign_does_not_wait() -> None:
    store = HashStore()
    watch = Watch(0, 2, 7200, store)
    begin(watch, 3)
    until(lambda: store.check(["hf_asr/at/0"]), seconds=5)
    watch.end()
    assert '"step": 3' in store.get("hf_asr/at/0").decode()


def test_a_single_process_is_not_watched() -> None:
    watch = Watch(0, 1, 0.1)
    begin(watch, 0)
    assert watch._thread is None
    watch.on_train_end()
