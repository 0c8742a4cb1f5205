"""Which checkpoints are whole, which is the newest of them, and what a user may resume from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_asr.errors import UserError
from hf_asr.training.checkpoints import checkpoint_problem, checkpoint_to_resume, newest_checkpoint, write_contents


def make_checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"a": torch.zeros(10), "b": torch.zeros(3, 3)}, path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.save({"step": step}, path / name)
    (path / "running_loss_0.json").write_text('{"running_loss": 1.5}')
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    save_file({"a": torch.zeros(10)}, path / "ema.safetensors")
    torch.save({"pattern": None}, path / "adalora.pt")
    write_contents(path)
    return path


def truncate(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


BREAKS = {
    "weights cut": lambda path: truncate(path / "model.safetensors", 0.9),
    "weights cut in the header": lambda path: truncate(path / "model.safetensors", 0.2),
    "weights empty": lambda path: (path / "model.safetensors").write_bytes(b""),
    "no weights": lambda path: (path / "model.safetensors").unlink(),
    "no optimiser": lambda path: (path / "optimizer.pt").unlink(),
    "optimiser cut": lambda path: truncate(path / "optimizer.pt", 0.9),
    "no scheduler": lambda path: (path / "scheduler.pt").unlink(),
    "running loss cut": lambda path: truncate(path / "running_loss_0.json", 0.5),
    "average cut": lambda path: truncate(path / "ema.safetensors", 0.9),
    "no average": lambda path: (path / "ema.safetensors").unlink(),
    "ranks cut": lambda path: truncate(path / "adalora.pt", 0.9),
    "no ranks": lambda path: (path / "adalora.pt").unlink(),
    "contents cut": lambda path: truncate(path / "contents.json", 0.5),
    "no state": lambda path: (path / "trainer_state.json").unlink(),
    "state cut": lambda path: truncate(path / "trainer_state.json", 0.5),
}


def test_a_whole_one_has_no_problem(tmp_path: Path) -> None:
    assert checkpoint_problem(make_checkpoint(tmp_path, 5)) == ""


@pytest.mark.parametrize("name", BREAKS)
def test_broken_ones_are_named_and_passed_over(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = make_checkpoint(tmp_path, 9)
    broken = make_checkpoint(tmp_path, 10)
    BREAKS[name](broken)
    assert checkpoint_problem(broken)
    with caplog.at_level("WARNING", logger="hf_asr"):
        assert newest_checkpoint(tmp_path) == whole
    with pytest.raises(UserError, match="checkpoint-10"):
        checkpoint_to_resume(str(broken), tmp_path)


def test_one_without_a_list_of_its_files_is_whole(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path, 5)
    (checkpoint / "contents.json").unlink()
    assert checkpoint_problem(checkpoint) == ""


def test_newest_is_by_number_and_ignores_unfinished_ones(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path, 11).rename(tmp_path / "incomplete-checkpoint-11")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.parametrize(("wanted", "expected"), [(None, None), (False, None), (True, "checkpoint-3")])
def test_what_resume_means(tmp_path: Path, wanted: object, expected: str | None) -> None:
    make_checkpoint(tmp_path, 3)
    found = checkpoint_to_resume(wanted, tmp_path)
    assert (found.name if found else None) == expected


def test_true_without_any_checkpoint_starts_anew(tmp_path: Path) -> None:
    assert checkpoint_to_resume(True, tmp_path / "nothing") is None
