"""The run folder: begun once, never overwritten, and everything needed to repeat the run kept in it."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import shutil
import sys
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import disable_progress_bars
from rich.console import Console
from rich.logging import RichHandler
from transformers.utils import logging as transformers_logging

from hf_asr.config.arguments import Arguments
from hf_asr.config.parser import save_arguments
from hf_asr.errors import UserError
from hf_asr.files import lock_run, write_whole
from hf_asr.inference.generate import on_main
from hf_asr.training.adapters import merged, save_adapter, set_aside
from hf_asr.training.checkpoints import RUN_FILES, checkpoint_to_resume
from hf_asr.training.resume import check_resume

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "torchaudio", "transformers", "datasets", "accelerate", "evaluate", "peft", "jiwer", "soundfile")
BEST = "best_checkpoint"
ADAPTER = "adapter"


def begin_logging() -> None:
    """Send our log lines to the console, and keep them for the run's log; processes other than 0 only tell warnings."""
    main_process = os.environ.get("RANK", "0") == "0"
    no_bars_in_files()
    root = logging.getLogger("hf_asr")
    for handler in [*root.handlers]:
        root.removeHandler(handler)
        handler.close()
    root.propagate = False
    root.setLevel(logging.INFO if main_process else logging.WARNING)
    root.addHandler(console_handler())
    if main_process:
        root.addHandler(MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False))


def no_bars_in_files() -> None:
    """Switch the libraries' progress bars off where stderr is no terminal: a file keeps each as one long line."""
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
        disable_progress_bars()


def begin_process() -> None:
    """Set up what every process of a recipe needs before anything is loaded: its log lines, its share of the cores."""
    begin_logging()
    set_threads()


def console_handler() -> logging.Handler:
    """Return a handler for stderr: coloured on a terminal, one plain line a message in a file or a pipe."""
    console = Console(stderr=True)
    if console.is_terminal:
        return RichHandler(console=console, show_path=False)
    plain = logging.StreamHandler()
    plain.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    return plain


class RunLog(logging.FileHandler):
    """The run's log; a disk that is full ends the run with that message, not with a traceback for every line."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise what went wrong."""
        raise


def log_into(path: Path) -> None:
    """Write what was logged so far, and all that follows, to a file."""
    root = logging.getLogger("hf_asr")
    file = RunLog(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for handler in [*root.handlers]:
        if isinstance(handler, MemoryHandler):
            handler.setTarget(file)
            handler.flush()
            root.removeHandler(handler)
    root.addHandler(file)


def check_run_folder(arguments: Arguments, training: Any) -> Path | None:
    """See that no run would be overwritten, and that one that is resumed can go on, before anything is loaded.

    The main process looks, for all: a slow one would find the folder that a fast one has begun.

    Args:
        arguments: The whole configuration.
        training: The Trainer's arguments (how many processes there are).

    Returns:
        The checkpoint to resume from; None to train from the start.

    Raises:
        UserError: The folder holds a run and resuming was not asked for, or this run cannot be resumed.
    """
    return on_main(_check_run_folder, arguments, training.world_size)


def _check_run_folder(arguments: Arguments, processes: int) -> Path | None:
    _refuse_overwriting(arguments)
    wanted = arguments.training.get("resume_from_checkpoint")
    checkpoint = checkpoint_to_resume(wanted, arguments.run_dir / "checkpoints")
    if checkpoint is not None:
        check_resume(arguments, checkpoint, processes)
    return checkpoint


def _refuse_overwriting(arguments: Arguments) -> None:
    run_dir = arguments.run_dir
    if (run_dir / "config.yaml").exists() and not arguments.training.get("resume_from_checkpoint"):
        raise UserError(
            f"expected a new run folder, found a run in {run_dir}. Give another experiment.name, delete the folder, "
            "or go on with it: training.resume_from_checkpoint=true"
        )


def begin_run(arguments: Arguments, training: Any) -> Path:
    """Make the run folder with its config, environment and log; return it once it is there for every process.

    Args:
        arguments: The whole configuration.
        training: The Trainer's arguments (which process this is).

    Raises:
        UserError: The folder cannot be written, or holds a run by now.
    """
    run_dir = arguments.run_dir
    if training.should_save:
        _refuse_overwriting(arguments)  # another one may have begun it while this one was reading the corpus
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            lock_run(run_dir)
            save_arguments(arguments, run_dir / "config.yaml")
            write_whole(run_dir / "environment.json", json.dumps(environment(training), indent=2) + "\n")
            log_into(run_dir / "training.log")
        except OSError as error:
            raise UserError(
                f"experiment.output_dir: expected a folder that can be written, found {run_dir}: {error.strerror}. "
                "Choose another folder."
            ) from error
    PartialState().wait_for_everyone()
    return run_dir


def environment(training: Any) -> dict[str, Any]:
    """Return versions and hardware; no host, user or folder names."""
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": devices,
        "processes": training.world_size,
        "device": training.device.type,
        "mixed_precision": training.mixed_precision,
    }


def set_threads() -> None:
    """Share the cores between a machine's processes: with twice the threads they run 10 to 20 times slower."""
    if "OMP_NUM_THREADS" not in os.environ:
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def save_best(trainer: Any, processor: Any, run_dir: Path, *, merge: bool) -> Path:
    """Write ``best_checkpoint``: a stock model with its processor and the run's config, whole or absent.

    Args:
        trainer: The trainer after training, which holds the best weights; all processes call this.
        processor: Feature extractor and tokenizer.
        run_dir: The run folder.
        merge: Add adapters into the weights; otherwise they are saved as they are, beside their base.

    Returns:
        The folder, there for every process.
    """
    final, staging = run_dir / BEST, run_dir / f"incomplete-{BEST}"
    sharing = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    whole = trainer.accelerator.get_state_dict(trainer.model) if sharing else None  # all processes give their parts
    if trainer.args.should_save:
        model = trainer.accelerator.unwrap_model(trainer.model)
        shutil.rmtree(staging, ignore_errors=True)
        save_adapter(model, run_dir / ADAPTER)
        chosen = merged(model) if merge else set_aside(model, staging)
        chosen.config.use_cache = True  # the Trainer turns it off; who decodes wants it on
        chosen.save_pretrained(staging, state_dict=whole)
        trainer.family.check_saved(staging, chosen)
        processor.save_pretrained(staging)
        for name in RUN_FILES:
            shutil.copyfile(run_dir / name, staging / name)
        shutil.rmtree(final, ignore_errors=True)
        staging.rename(final)
    trainer.accelerator.wait_for_everyone()
    return final
