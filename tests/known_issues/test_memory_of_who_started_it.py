"""The peak of a process in its own right: Linux's ru_maxrss begins with the memory of the one that started it.

docs/benchmarks.json had the same peak for two windows to the last digit: that of benchmarks/run.py.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from hf_asr.profiling.resident import peak_rss_bytes

BALLAST = 2**28


def test_a_small_process_of_a_large_one_is_small() -> None:
    ballast = np.ones(BALLAST, dtype=np.int8)
    code = "from hf_asr.profiling.resident import peak_rss_bytes; print(peak_rss_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert peak_rss_bytes() > ballast.nbytes > int(done.stdout) > 0
