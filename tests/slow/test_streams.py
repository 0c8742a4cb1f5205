"""Streams through the recipe: on several processes, against a table, and with a rank that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers.outcomes import sample_ids
from helpers.processes import history, launch
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_shards import make_tars, members_of, write_tar
from helpers.tiny_whisper import make_tiny_whisper

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_whisper(tmp_path / "model", d_model=32)


def yaml_of(folder: Path, model: Path, data: dict[str, object], **training: object) -> Path:
    """Write the YAML of a run over another corpus than tiny_yaml's."""
    path = tiny_yaml(folder, model, folder, log_sample_ids=True, eval_strategy="no", **training)
    sections = json.loads(path.read_text())
    sections["data"] = {"language": "en", "max_seconds": 4, **data}
    sections["evaluation"]["baseline"] = False
    path.write_text(json.dumps(sections))
    return path


def sharded(folder: Path, model: Path, shards: int, clips: int, **training: object) -> Path:
    """Write shards and the YAML of a run that streams them."""
    make_tars(folder / "shards", shards, clips)
    write_tar(folder / "shards" / "test-0.tar", members_of(99))
    data = {"corpus": "webdataset", "path": str(folder / "shards"), "streaming": True}
    return yaml_of(folder, model, data, **training)


@pytest.mark.parametrize("processes", [2, 4])
def test_a_listed_stream_trains_as_one_process(project_root: Path, model: Path, tmp_path: Path, processes: int) -> None:
    manifest = make_tiny_corpus(tmp_path / "corpus", train=13, validation=4, test=2)
    yaml = tiny_yaml(tmp_path, model, manifest, log_sample_ids=True)
    for number in (1, processes):
        batch = f"training.per_device_train_batch_size={4 // number}"
        words = [f"experiment.name=on{number}", batch, "data.streaming=true", "evaluation.baseline=false"]
        done = launch(project_root, number, yaml, *words)
        assert done.returncode == 0, done.stderr[-3000:]
    one, many = (tmp_path / "runs" / f"on{number}" for number in (1, processes))
    for key in ("loss", "grad_norm", "eval_loss"):
        assert history(many, key) == pytest.approx(history(one, key), rel=1e-5)
    ids = sample_ids(many)
    assert len(set(ids[:13])) == len(set(ids[13:])) == 13 and len(ids) == 26


@pytest.mark.parametrize("processes", [2, 4])
def test_shards_are_shared_out_once_an_epoch(project_root: Path, model: Path, tmp_path: Path, processes: int) -> None:
    yaml = sharded(tmp_path, model, 5, 3, per_device_train_batch_size=2)
    done = launch(project_root, processes, yaml)
    assert done.returncode == 0, done.stderr[-3000:]
    ids = sample_ids(tmp_path / "runs" / "tiny")
    assert len(set(ids[:15])) == len(set(ids[15:])) == 15 and len(ids) == 30


def test_more_processes_than_shards(project_root: Path, model: Path, tmp_path: Path) -> None:
    done = launch(project_root, 2, sharded(tmp_path, model, 1, 3))
    assert done.returncode != 0
    assert "expected at least one shard for each of 2 processes, found 1 shard. Use at most 1 process" in done.stderr


def test_a_rank_that_is_killed_ends_the_others(project_root: Path, model: Path, tmp_path: Path) -> None:
    yaml = sharded(tmp_path, model, 4, 3, max_steps=100_000)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(project_root / "recipes/finetune_seq2seq.py"), "--config", str(yaml)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(project_root)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as run:
        log = tmp_path / "runs" / "tiny" / "sample_ids.jsonl"
        while run.poll() is None and (not log.is_file() or log.read_text().count("\n") < 8):
            os.sched_yield()
        ranks = [
            child for child in psutil.Process(run.pid).children() if "finetune_seq2seq.py" in " ".join(child.cmdline())
        ]
        ranks[-1].send_signal(signal.SIGKILL)
        _, told = run.communicate(timeout=300)
    assert run.returncode != 0
    assert "Signal 9 (SIGKILL)" in told


def test_gigaspeech_streamed_against_cached(project_root: Path, model: Path, tmp_path: Path, shared_data: Path) -> None:
    path = str(shared_data / "gigaspeech_layout")
    data = {"corpus": "gigaspeech", "path": path, "splits": {"train": "S", "test": "S"}, "limit": {"test": 1}}
    yaml = yaml_of(tmp_path, model, data, train_sampling_strategy="sequential", max_steps=5)
    for name in ("cached", "streamed"):
        streaming = f"data.streaming={str(name == 'streamed').lower()}"
        done = launch(project_root, 1, yaml, f"experiment.name={name}", streaming)
        assert done.returncode == 0, done.stderr[-3000:]
    cached, streamed = (tmp_path / "runs" / name for name in ("cached", "streamed"))
    assert (streamed / "sample_ids.jsonl").read_text() == (cached / "sample_ids.jsonl").read_text()
    losses = history(cached, "loss")
    assert history(streamed, "loss") == losses and len(losses) == 5
    assert json.loads((streamed / "test" / "test_results.json").read_text())["num_utterances"] == 1
