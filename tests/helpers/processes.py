"""A recipe on several processes, and what it logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def launch(project_root: Path, processes: int, yaml: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Start the recipe with torchrun; four processes on a busy machine of two cores took 90 s to import."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += [str(project_root / "recipes/finetune_seq2seq.py"), "--config", str(yaml), *words]
    path = os.pathsep.join([str(project_root), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)


def history(run: Path, key: str) -> list[float]:
    """Return what was logged under a key."""
    last = max((run / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    entries: list[dict[str, Any]] = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [entry[key] for entry in entries if key in entry]
