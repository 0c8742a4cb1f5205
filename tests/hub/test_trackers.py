"""Trackers in their local modes, without a network: configuration, results and predictions with audio arrive."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.clips import split_of, tone, write_clip

from hf_asr.hub.trackers import SAMPLES, sample_predictions
from hf_asr.utterance import AudioRef, Utterance

# In a process of its own: trackers keep state, and trackio reads its folder when it is imported.
SCRIPT = """
import json, socket, sys
from pathlib import Path
from types import SimpleNamespace
import transformers
from transformers.trainer_callback import CallbackHandler, TrainerControl, TrainerState
from transformers.integrations import get_reporting_integration_callbacks
from helpers.clips import row_of, split_of
from hf_asr.config.arguments import Arguments, ExperimentArguments, ModelArguments
from hf_asr.hub.trackers import begin_trackers, end_trackers

real = socket.socket.connect
def connect(self, address):
    host = address[0] if isinstance(address, tuple) else "local"
    if host not in ("local", "127.0.0.1", "::1", "localhost"):
        print("NETWORK", address)
        raise OSError("no network here")
    return real(self, address)
socket.socket.connect = connect

name, folder = sys.argv[1], Path(sys.argv[2])
arguments = Arguments(
    experiment=ExperimentArguments(name="run", output_dir=str(folder)), model=ModelArguments(name_or_path="m")
)
args = transformers.TrainingArguments(
    output_dir=str(folder / "run" / "checkpoints"), report_to=[name], run_name="run", use_cpu=True
)
state, control = TrainerState(is_world_process_zero=True), TrainerControl()
callbacks = [item() for item in get_reporting_integration_callbacks([name])]
handler = CallbackHandler(callbacks, None, None, None, None)
trainer = SimpleNamespace(args=args, callback_handler=handler, add_callback=handler.add_callback)
begin_trackers(trainer, arguments)
handler.on_train_begin(args, state, control)
handler.on_log(args, state, control, {"loss": 1.5})
handler.on_train_end(args, state, control)
rows = split_of([row_of(folder / f"clip{index}.wav", id=f"clip{index}") for index in range(2)], "test").rows
end_trackers(trainer, arguments, {"wer": 0.25, "normalizer": "basic"}, rows)
print("ENDED")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an output folder with a run, its predictions, report and clips."""
    run = tmp_path / "run"
    (run / "test").mkdir(parents=True)
    (run / "config.yaml").write_text("experiment: {name: run, seed: 4711}\n")
    (run / "test" / "report.html").write_text("<html>the report</html>")
    with (run / "test" / "test_predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "reference", "hypothesis"], ["clip0", "one two", "one too"], ["clip1", "x", "x"]])
    for index in range(2):
        write_clip(tmp_path / f"clip{index}.wav", tone(0.5 + 0.1 * index))
    return tmp_path


def track(name: str, folder: Path, project_root: Path) -> str:
    """Run a tracker from begin to end; return what was printed."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install 'hf_asr[trackers]'")
    drop = ("WANDB", "MLFLOW", "TRACKIO")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
    paths = os.pathsep.join([str(project_root), str(project_root / "tests")])
    environment |= {"HF_HUB_OFFLINE": "1", "TRACKIO_DIR": str(folder / "trackio"), "PYTHONPATH": paths}
    command = [sys.executable, "-c", SCRIPT, name, str(folder)]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert "ENDED" in done.stdout, done.stdout[-1000:] + done.stderr[-3000:]
    assert "NETWORK" not in done.stdout
    return done.stdout


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.slow
def test_wandb_offline(folder: Path, project_root: Path) -> None:
    track("wandb", folder, project_root)
    (run,) = (folder / "wandb").glob("offline-run-*")
    kept = contents(run)
    assert b"4711" in kept and b"test/wer" in kept and b"the report" in kept
    (table,) = run.rglob("*.table.json")
    data = json.loads(table.read_text())
    assert data["columns"] == ["id", "reference", "hypothesis", "audio"]
    assert [row[:3] for row in data["data"]] == [["clip0", "one two", "one too"], ["clip1", "x", "x"]]
    assert len(list(run.rglob("*.wav"))) == 2


@pytest.mark.slow
def test_mlflow_in_files(folder: Path, project_root: Path) -> None:
    track("mlflow", folder, project_root)
    (artifacts,) = (path for path in (folder / "mlruns").glob("*/*/artifacts"))
    assert "4711" in (artifacts / "config.yaml").read_text()
    assert (artifacts / "report.html").is_file()
    table = json.loads((artifacts / "predictions" / "predictions.json").read_text())
    assert [row["hypothesis"] for row in table["data"]] == ["one too", "x"]
    assert all((artifacts / row["audio"]).is_file() for row in table["data"])
    assert "0.25" in (artifacts.parent / "metrics" / "test" / "wer").read_text()


@pytest.mark.slow
def test_trackio_locally(folder: Path, project_root: Path) -> None:
    track("trackio", folder, project_root)
    kept = contents(folder / "trackio")
    assert b"4711" in kept and b"test/wer" in kept and b"one too" in kept
    assert b"test/report" in kept and b"<html>the report</html>" in kept
    assert len(list((folder / "trackio").rglob("*.wav"))) == 2


def test_samples_are_spread_over_the_test_and_silent_where_audio_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "test_predictions.csv"
    path.write_text("id,reference,hypothesis\n" + "".join(f"clip{index},r,h\n" for index in range(101)))
    rows = split_of([Utterance("clip0", AudioRef(path="gone.wav"), "r").as_row()], "test").rows
    chosen = list(sample_predictions(path, rows))
    assert len(chosen) == SAMPLES
    assert (chosen[0][0]["id"], chosen[-1][0]["id"]) == ("clip0", "clip100")
    assert {audio for _, audio in chosen} == {None}
    assert list(sample_predictions(tmp_path / "none.csv", rows)) == []
