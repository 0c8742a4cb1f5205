"""A recipe's pushes: the weights of every save while training goes on, and everything at its end."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingface_hub.constants import is_offline_mode
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.features.cache import PreparedSplit
from hf_asr.hub.features import push_features
from hf_asr.hub.model_card import interim_card
from hf_asr.hub.push import hub_api, is_private, link_or_copy, push_run
from hf_asr.hub.run_files import PushFile, model_files, public_config
from hf_asr.hub.secrets import check_secrets
from hf_asr.hub.sending import send
from hf_asr.hub.trackers import begin_trackers

logger = logging.getLogger(__name__)

STAGING = ".pushing"


class PushSaves(TrainerCallback):
    """Pushes the weights of each checkpoint in a thread of its own; training neither waits for it nor fails with it.

    A checkpoint that is written while an earlier one is on its way waits; where several do, the newest is sent.
    A failed push is told and counted; the next save, and the end of the run, send again.

    Args:
        arguments: The whole configuration.
        endpoint: Address of the Hub in place of ``HF_ENDPOINT``.
    """

    def __init__(self, arguments: Arguments, endpoint: str | None = None) -> None:
        self.arguments = arguments
        self.endpoint = endpoint
        self.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        self.running: Future[None] | None = None
        self.waiting: tuple[int, Path, str] | None = None
        self.pushed: list[int] = []
        self.failed: list[int] = []

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take over the checkpoint that was just written, and send it as soon as nothing else is on its way."""
        checkpoint = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
        if not state.is_world_process_zero or not checkpoint.is_dir():
            return
        if self.waiting is not None:
            shutil.rmtree(self.waiting[1], ignore_errors=True)
        card = interim_card(self.arguments, state.global_step, state.max_steps, state.log_history)
        self.waiting = (state.global_step, self._stage(checkpoint), card)
        self._send_waiting()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Send what waits once the way is free."""
        if self.waiting is not None:
            self._send_waiting()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Wait for what is on its way; what still waits is left to the push at the end of the run."""
        if self.running is not None:
            self.running.result()
        self.pool.shutdown()
        shutil.rmtree(self.arguments.run_dir / STAGING, ignore_errors=True)
        if self.pushed or self.failed:
            logger.info("pushed the weights of %d saves; %d failed", len(self.pushed), len(self.failed))

    def _stage(self, checkpoint: Path) -> Path:
        """Give the checkpoint's model files second names: the Trainer may delete it while they are sent."""
        folder = self.arguments.run_dir / STAGING / checkpoint.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in model_files(checkpoint):
            link_or_copy(file.source, folder / file.source.name)
        return folder

    def _send_waiting(self) -> None:
        if self.waiting is not None and (self.running is None or self.running.done()):
            self.running = self.pool.submit(self._push, *self.waiting)
            self.waiting = None

    def _push(self, step: int, folder: Path, card: str) -> None:
        hub = self.arguments.hub
        assert hub.repo is not None
        config = self.arguments.run_dir / "config.yaml"
        files = [*model_files(folder), PushFile("README.md", folder, card.encode())]
        files += [public_config(config)] if config.is_file() else []
        private = is_private(hub.private, vars(self.arguments.data))
        try:
            if not any(file.path.endswith(".safetensors") for file in files):
                raise UserError("expected weights as safetensors in the checkpoint, found none.")
            check_secrets(files)
            send(hub_api(self.endpoint), hub.repo, files, private=private, message=f"Step {step}, still training")
        except (UserError, OSError) as error:
            self.failed.append(step)
            logger.warning("hub.push_every: the weights of step %d were not pushed: %s", step, error)
        else:
            self.pushed.append(step)
            logger.info("pushed the weights of step %d to %s", step, hub.repo)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish_while_training(trainer: Any, arguments: Arguments) -> None:
    """Add what pushes during training (``hub.push_every: save``), and give trackers the configuration."""
    hub = arguments.hub
    begin_trackers(trainer, arguments)
    if hub.push and hub.push_every == "save" and trainer.args.should_save and not is_offline_mode():
        trainer.add_callback(PushSaves(arguments))


def publish_run(arguments: Arguments, prepared: Mapping[str, PreparedSplit]) -> None:
    """Push what ``hub.push`` and ``hub.push_features`` ask for; called on the main process when all is written.

    Args:
        arguments: The whole configuration.
        prepared: The splits, for their features.

    Raises:
        UserError: A push failed; the run itself is whole.
    """
    hub, run_dir = arguments.hub, arguments.run_dir
    try:
        if hub.push:
            place = push_run(run_dir, hub.repo, hub.private, report=hub.push_report)
            logger.info("pushed to %s", place) if "://" in place else logger.warning("not pushed, offline: %s", place)
        if hub.push_features:
            push_features(arguments, prepared)
    except UserError as error:
        raise UserError(f"{error} The run itself is whole: {run_dir}; `hf-asr push` sends it later.") from error
