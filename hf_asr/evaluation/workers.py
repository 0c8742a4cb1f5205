"""Work on texts shared out to processes of their own, which load nothing but what the work needs.

A pool of ``multiprocessing`` would run the caller's main script again in each process, or fork one that may hold a
GPU. Here each block of work is a ``python -m hf_asr.evaluation.workers`` that reads it from a pipe.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

# A process takes 0.3 s to start: about what aligning 2,500 short utterances takes.
WORTH_A_PROCESS = 10_000
MOST_PROCESSES = 16


def in_blocks(work: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
    """Call a function on blocks of equally long columns, each block in a process where there are many rows.

    Args:
        work: A module's own function; it is found again by its name.
        columns: What it takes, rows in step.

    Returns:
        What it gave for each block, in order; one block where there are few rows or one core.
    """
    size = len(columns[0])
    blocks = min(len(os.sched_getaffinity(0)), size // WORTH_A_PROCESS, MOST_PROCESSES)
    if blocks < 2:
        return [work(*columns)]
    edges = [size * block // blocks for block in range(blocks + 1)]
    parts = [[column[low:high] for column in columns] for low, high in pairwise(edges)]
    with ThreadPoolExecutor(blocks) as threads:
        return list(threads.map(lambda part: _elsewhere(work, part), parts))


def _elsewhere(work: Callable[..., Any], part: Sequence[Any]) -> Any:
    """Do one block in a process of its own; what goes wrong there is told on stderr."""
    job = pickle.dumps((work.__module__, work.__qualname__, part))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=job, stdout=subprocess.PIPE, check=True, env=environment
    )
    return pickle.loads(done.stdout)


def main() -> None:
    """Read a block of work from stdin and write its result to stdout."""
    module, name, part = pickle.load(sys.stdin.buffer)
    result = vars(importlib.import_module(module))[name](*part)
    sys.stdout.buffer.write(pickle.dumps(result))


if __name__ == "__main__":
    main()
