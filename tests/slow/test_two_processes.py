"""The recipe on two and four processes: the losses of one with a batch as much larger, and each clip once an epoch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from helpers.outcomes import results_of, sample_ids
from helpers.processes import history, launch
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

pytestmark = pytest.mark.slow
BAD = ("clip1.wav", "clip4.wav")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tiny_whisper(tmp_path / "model", d_model=32)


@pytest.mark.parametrize(("many", "clips"), [(2, 12), (2, 13), (4, 13)], ids=["2, even", "2, uneven", "4, uneven"])
def test_many_processes_train_as_one(project_root: Path, model: Path, tmp_path: Path, many: int, clips: int) -> None:
    manifest = make_tiny_corpus(tmp_path / "corpus", train=clips, validation=5, test=5)
    yaml = tiny_yaml(tmp_path, model, manifest, log_sample_ids=True)
    for processes in (1, many):
        batch = f"training.per_device_train_batch_size={4 // processes}"
        done = launch(project_root, processes, yaml, f"experiment.name=on{processes}", batch)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (tmp_path / "runs" / name for name in ("on1", f"on{many}"))
    for key in ("loss", "grad_norm", "eval_loss"):
        assert history(two, key) == pytest.approx(history(one, key), rel=1e-5)
    assert history(two, "eval_wer") == history(one, "eval_wer")
    epochs = (sample_ids(two)[:clips], sample_ids(two)[clips:])
    assert all(set(Counter(epoch).values()) == {1} and len(epoch) == clips for epoch in epochs)
    for part in ("baseline", "test"):
        same = ("wer", "cer", "num_utterances", "skipped", "wer_interval")
        before, after = results_of(one / part), results_of(two / part)
        assert {name: after[name] for name in same} == {name: before[name] for name in same}


@pytest.mark.parametrize("mode", [["features.cache=false"], ["data.streaming=true", "training.max_steps=8"]])
def test_two_processes_count_bad_clips_once(project_root: Path, model: Path, tmp_path: Path, mode: list[str]) -> None:
    manifest = make_tiny_corpus(tmp_path / "corpus", train=13)
    for name in BAD:
        clip = manifest.parent / name
        clip.write_bytes(clip.read_bytes()[:-1000])
    yaml = tiny_yaml(tmp_path, model, manifest, log_sample_ids=True, per_device_train_batch_size=2)
    done = launch(project_root, 2, yaml, "evaluation.baseline=false", *mode)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "runs" / "tiny"
    assert Counter(sample_ids(run)).most_common(1)[0][1] <= 2 and len(set(sample_ids(run))) == 11
    assert any(
        line.startswith("| train |") and "broken audio: 2" in line
        for line in (run / "README.md").read_text().split("\n")
    )
    log = (run / "training.log").read_text()
    assert all(f"left out of training: {name}: broken_audio" in log for name in BAD)


def test_a_mistake_is_told_by_every_process(project_root: Path, model: Path, tmp_path: Path) -> None:
    yaml = tiny_yaml(tmp_path, model, make_tiny_corpus(tmp_path / "corpus"))
    done = launch(project_root, 2, yaml, "freeze.groups=[enocder]")
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    assert any(line.startswith("freeze: expected") for line in lines)
    assert any(line.startswith("process 1: freeze: expected") for line in lines)
    assert not (tmp_path / "runs").exists()
