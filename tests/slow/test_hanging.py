"""A process that hangs ends the run before long, with a message that names it and its step."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

pytestmark = pytest.mark.slow


def test_a_rank_that_is_stopped_is_named(project_root: Path, tmp_path: Path) -> None:
    model = make_tiny_whisper(tmp_path / "model", d_model=32)
    settings = {"max_steps": 100_000, "ddp_timeout": 60, "log_sample_ids": True, "eval_strategy": "no"}
    yaml = tiny_yaml(tmp_path, model, make_tiny_corpus(tmp_path / "corpus"), **settings)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(project_root / "recipes/finetune_seq2seq.py"), "--config", str(yaml), "evaluation.baseline=false"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(project_root)}
    log = tmp_path / "runs" / "tiny" / "sample_ids.jsonl"
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        while run.poll() is None and (not log.is_file() or log.read_text().count("\n") < 8):
            os.sched_yield()
        ranks = [child for child in psutil.Process(run.pid).children() if child.environ().get("RANK") == "1"]
        ranks[0].send_signal(signal.SIGSTOP)
        _, told = run.communicate(timeout=600)
    assert run.returncode != 0
    found = re.search(r"expected step (\d+) to end, found it unfinished after \d+ s \(training.ddp_timeout is 60", told)
    assert found and int(found[1]) >= 4, told[-3000:]
    assert re.search(r"process 1: no sign of life after step \d+", told)
    assert "go on with training.resume_from_checkpoint=true" in told
