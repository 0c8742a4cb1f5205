"""The most resident memory that this process has had; imports nothing heavy."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int:
    """Return the largest resident memory since this program was started.

    Linux's ``ru_maxrss`` begins with what the program that started this one had in memory: a small process of a large
    one would have its figure. The kernel's high-water mark of this program's own memory is read where there is one.
    """
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
