"""Another program that trains into a run folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOLD = (
    "import sys; from pathlib import Path; from hf_asr.files import lock_run; lock_run(Path(sys.argv[1])); "
    "print('held', flush=True); sys.stdin.read()"
)


@contextlib.contextmanager
def held_by_another(folder: Path) -> Iterator[None]:
    """Have another process hold a run folder's lock, and kill it at the end."""
    command, environment = [sys.executable, "-c", HOLD, str(folder)], os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        try:
            yield
        finally:
            other.kill()
