"""Checkpoints that are whole or absent: written under a temporary name, flushed to disk, then renamed.

A training killed at any moment leaves ``incomplete-checkpoint-N`` at worst, which is never resumed from.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.trainer_utils import rotate_checkpoints

from hf_asr.errors import UserError

logger = logging.getLogger(__name__)

STATE_FILE = "trainer_state.json"
RUN_FILES = ("config.yaml", "environment.json")
FULL = 2**20  # bytes that a disk has left at most when a write of weights has failed for want of room
STATES = ("optimizer.pt", "scheduler.pt")
RUNNING_LOSS = "running_loss_{}.json"
# Written last: the bytes of each file of numbers. What a run keeps depends on it (an average, AdaLoRA's ranks, shards).
CONTENTS = "contents.json"
NUMBERS = (".safetensors", ".pt", ".pth", ".bin")
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")


def flush_tree(folder: Path) -> None:
    """Have the operating system write every file below ``folder`` to the disk."""
    for path in [*(p for p in folder.rglob("*") if p.is_file()), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def safetensors_problem(path: Path) -> str:
    """Return what is wrong with a safetensors file's length, or an empty text.

    The format is 8 bytes of header length, a JSON header with each tensor's byte range, then the tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return f"{path.name} has only {size} bytes"
        (length,) = struct.unpack("<Q", start)
        if 8 + length > size:
            return f"{path.name} ends inside its header"
        header = json.loads(file.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    return "" if size == expected else f"{path.name} has {size} bytes, its header promises {expected}"


def checkpoint_problem(folder: Path) -> str:
    """Return why ``folder`` is no whole checkpoint, or an empty text when it is one."""
    try:
        step = json.loads((folder / STATE_FILE).read_text())["global_step"]
    except (OSError, ValueError, KeyError) as error:
        return f"{STATE_FILE} cannot be read ({error})"
    weights = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not weights:
        return f"none of {', '.join(WEIGHT_FILES)} is there"
    for name in STATES:  # torch.save writes a zip archive, whose directory stands at its end
        if not zipfile.is_zipfile(folder / name):
            return f"{name} is {'damaged' if (folder / name).is_file() else 'not there'}"
    try:
        problems = [safetensors_problem(path) for path in weights if path.suffix == ".safetensors"]
    except (OSError, ValueError, KeyError) as error:
        return f"weights cannot be read ({error})"
    problems += [running_loss_problem(folder), contents_problem(folder)]
    return next(filter(None, problems), "") or ("" if isinstance(step, int) else "no step in its state")


def running_loss_problem(folder: Path) -> str:
    """Return which running loss cannot be read, or an empty text."""
    for path in sorted(folder.glob(RUNNING_LOSS.format("*"))):
        try:
            json.loads(path.read_text())["running_loss"]
        except (OSError, ValueError, KeyError) as error:
            return f"{path.name} cannot be read ({error})"
    return ""


def contents_problem(folder: Path) -> str:
    """Return which file is not there, or not whole, by the checkpoint's own list; a plain Trainer's has none."""
    if not (folder / CONTENTS).is_file():
        return ""
    try:
        expected: dict[str, int] = json.loads((folder / CONTENTS).read_text())
    except (OSError, ValueError) as error:
        return f"{CONTENTS} cannot be read ({error})"
    for name, size in expected.items():
        if not (folder / name).is_file():
            return f"{name} is not there"
        if (folder / name).stat().st_size != size:
            return f"{name} has {(folder / name).stat().st_size} bytes, {CONTENTS} promises {size}"
    return ""


def write_contents(folder: Path) -> None:
    """Write the list that :func:`contents_problem` reads."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in NUMBERS]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    (folder / CONTENTS).write_text(json.dumps(sizes, indent=1))


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole ``checkpoint-N`` in ``folder``; broken ones are named in the log and passed over."""
    numbered = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(numbered, key=checkpoint_step, reverse=True):
        problem = checkpoint_problem(path)
        if not problem:
            return path
        logger.warning("passed over %s: %s", path, problem)
    return None


def checkpoint_step(folder: Path) -> int:
    """Return the N of ``checkpoint-N``."""
    return int(folder.name.removeprefix("checkpoint-"))


def saved_state(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint's trainer_state.json holds."""
    state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
    return state


def stopped_early(state: Mapping[str, Any]) -> bool:
    """Tell whether training was ended before its last step: nothing is left to train, whatever steps there were."""
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return bool(control.get("should_training_stop")) and state["global_step"] < state["max_steps"]


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Raise what the system says when a disk is full: torch and safetensors raise errors of their own.

    Raises:
        OSError: ENOSPC.
    """
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if shutil.disk_usage(folder).free > FULL:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


def checkpoint_to_resume(wanted: Any, folder: Path) -> Path | None:
    """Turn ``training.resume_from_checkpoint`` into a checkpoint.

    Args:
        wanted: False or None (start anew), True (the newest whole one; none yet: from the start), or a path.
        folder: The run's ``checkpoints`` folder.

    Raises:
        UserError: The path is no whole checkpoint.
    """
    if wanted in (None, False):
        return None
    if wanted is True:
        found = newest_checkpoint(folder)
        logger.info("resuming from %s", found or "the start: there is no whole checkpoint yet")
        return found
    path = Path(str(wanted)).resolve()
    problem = checkpoint_problem(path)
    if problem:
        raise UserError(
            f"training.resume_from_checkpoint: expected true or the folder of a whole checkpoint, found {wanted}: "
            f"{problem}. Use true for the newest whole one."
        )
    return path


class CheckpointMixin:
    """Replaces ``Trainer._save_checkpoint`` (transformers 5.23) by one that is atomic and keeps the running loss.

    The running loss since the last log line is part of the state (upstream drops it), so the first line logged
    after a resume equals that of a run that was never stopped.
    """

    args: Any
    state: Any
    accelerator: Any

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Save model, optimiser, scheduler, scaler, random states, running loss, state and the run's config."""
        host: Any = self
        host.store_flos()
        folder = Path(self.args.output_dir)
        final = folder / f"checkpoint-{self.state.global_step}"
        staging = folder / f"incomplete-{final.name}"
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self._note_best(folder)
        with full_disk_told(staging):
            host.save_model(str(staging), _internal_call=True)
            host._save_optimizer_and_scheduler(str(staging))
            host._save_scaler(str(staging))
            host._save_rng_state(str(staging))
        self._save_running_loss(staging)
        if self.args.should_save:
            self._save_state(staging)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._publish(staging, final)
        self.accelerator.wait_for_everyone()

    def _note_best(self, folder: Path) -> None:
        best = folder / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step and (self.state.best_global_step == self.state.global_step or best.is_dir()):
            self.state.best_model_checkpoint = str(best)

    def _save_running_loss(self, staging: Path) -> None:
        host: Any = self
        saved = {
            "clips": None if host.streams else len(host.train_dataset),
            "stream": host.stream_state() if host.streams else None,
            "running_loss": host._tr_loss.item(),
            "total_loss": host._total_loss_scalar,
            "last_logged_step": host._globalstep_last_logged,
        }
        (staging / RUNNING_LOSS.format(self.args.process_index)).write_text(json.dumps(saved))

    def check_clips(self, checkpoint: Path) -> None:
        """See that the training split has the clips it had: their order is a function of their number.

        Raises:
            UserError: It has more or fewer.
        """
        host: Any = self
        path = checkpoint / RUNNING_LOSS.format(self.args.process_index)
        before = json.loads(path.read_text()).get("clips") if path.is_file() else None
        if before is not None and not host.streams and before != len(host.train_dataset):
            raise UserError(
                f"training.resume_from_checkpoint: expected the {before} clips that {checkpoint} was trained on, found "
                f"{len(host.train_dataset)} in train. Give the same data, or train anew under another experiment.name."
            )

    def restore_running_loss(self, checkpoint: Path) -> None:
        """Put the loss gathered since the last log line back; called when training begins again."""
        host: Any = self
        path = checkpoint / RUNNING_LOSS.format(self.args.process_index)
        if not path.is_file():
            logger.warning("%s is not there: the first logged loss after this resume covers fewer steps", path)
            return
        saved = json.loads(path.read_text())
        host._tr_loss.fill_(saved["running_loss"])
        host._total_loss_scalar = saved["total_loss"]
        host._globalstep_last_logged = saved["last_logged_step"]

    def _save_state(self, staging: Path) -> None:
        host: Any = self
        for callback in host.stateful_callbacks():
            self.state.stateful_callbacks[type(callback).__name__] = callback.state()
        self.state.save_to_json(str(staging / STATE_FILE))
        run_dir = Path(self.args.output_dir).parent
        for name in RUN_FILES:
            if (run_dir / name).is_file():
                shutil.copyfile(run_dir / name, staging / name)

    def _publish(self, staging: Path, final: Path) -> None:
        write_contents(staging)
        flush_tree(staging)
        if final.is_dir():
            shutil.rmtree(final)
        staging.rename(final)
        flush_tree_entry(final.parent)
        rotate_checkpoints(str(final.parent), self.args.save_total_limit, self.state.best_model_checkpoint)


def flush_tree_entry(folder: Path) -> None:
    """Have a folder's own entries (a rename) written to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
