"""The processor's name; imports nothing heavy."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name; Linux tells it in a file alone."""
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
