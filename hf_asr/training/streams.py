"""Training on a stream: how many steps there are, where an epoch ends, and going on where a run was stopped.

A checkpoint keeps an epoch and the steps of it that were trained on. The order is a function of these, so nothing else
has to be saved, and it makes no difference what workers had read ahead.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from hf_asr.data.stream import Stream
from hf_asr.data.stream_batches import StreamBatchSampler
from hf_asr.errors import UserError
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.collate import ignored_like
from hf_asr.features.streamed import FILLER_ROW
from hf_asr.training.checkpoints import RUNNING_LOSS
from hf_asr.training.resume import processes_of

logger = logging.getLogger(__name__)


class StreamMixin:
    """Teaches ``Trainer`` streams whose epochs may be longer or shorter than was thought; comes before it in the bases.

    The host class sets ``train_split`` and ``resume_approximately``, and has :class:`LoaderMixin`.
    """

    args: Any
    state: Any
    control: Any
    accelerator: Any
    data_collator: Any
    train_split: PreparedSplit
    resume_approximately: bool
    stream_epoch = 0
    stream_steps = 0
    stream_clips = 0
    resumed_inside = False
    _filler: dict[str, Any] | None = None

    @property
    def stream(self) -> Stream:
        """The training split."""
        rows: Any = self.train_split.rows
        stream: Stream = rows.stream
        return stream

    def set_initial_training_values(self, args: Any, dataloader: Any) -> tuple[Any, ...]:
        """Return what the Trainer asks of a loader; of a stream its epochs are gone through until they end."""
        host: Any = self
        if not host.streams:
            values: tuple[Any, ...] = super().set_initial_training_values(args, dataloader)  # type: ignore[misc]
            return values
        epoch_steps = steps_of_epochs(args, dataloader.batch_sampler)
        max_steps = args.max_steps if args.max_steps > 0 else sum(epoch_steps)
        # The Trainer divides by the steps of an epoch to tell how far it is.
        in_epoch = (epoch_steps[0] if epoch_steps else max_steps) * args.gradient_accumulation_steps
        epochs = sys.maxsize if args.max_steps > 0 else math.ceil(args.num_train_epochs)
        clips = self.stream.expected or max_steps * host.get_total_train_batch_size(args)
        total = host.get_total_train_batch_size(args)
        return epochs, max_steps, clips, max_steps * total, total, in_epoch, max_steps

    def pad_step(self, batches: list[dict[str, Any]], num_batches: int) -> list[dict[str, Any]]:
        """Fill a last step, and ranks that ran dry before the others, with batches that count 0; end the epoch when
        no rank has anything left.
        """
        longest = len(batches)
        if self.stream.by_shard:
            longest = int(self.accelerator.gather(torch.tensor([longest], device=self.args.device)).max())
        if longest == 0:
            self.control.should_epoch_stop = True
            return []
        self.stream_steps += 1
        if batches:
            self._filler = {**batches[-1], "labels": ignored_like(batches[-1]["labels"])}
        elif self._filler is None:
            empty = self.data_collator([FILLER_ROW])
            self._filler = {name: value for name, value in empty.items() if name not in ("ids", "skipped")}
        return batches + [dict(self._filler or {}) for _ in range(num_batches - len(batches))]

    def end_epoch(self) -> None:
        """Note that an epoch has ended, and tell when the stream had not the clips that it promised."""
        expected, found = self.stream.expected, sum(gather_object([self.stream_clips]))
        over = self.control.should_training_stop and not self.control.should_epoch_stop
        if expected is not None and not self.resumed_inside and not over and found != expected:
            logger.warning(
                "data.streaming: the stream had %d clips in epoch %d, %d were expected: training follows what is "
                "there%s",
                found,
                self.stream_epoch,
                expected,
                self._sooner(),
            )
        self.stream_epoch, self.stream_steps, self.stream_clips, self.resumed_inside = (
            self.stream_epoch + 1,
            0,
            0,
            False,
        )

    def _sooner(self) -> str:
        """Tell where a run by epochs will end on a stream that is shorter than was thought, and that it has ended."""
        left = math.ceil(self.args.num_train_epochs) - self.stream_epoch - 1
        about = self.state.global_step + left * self.stream_steps
        if self.args.max_steps > 0 or about >= self.state.max_steps:
            return ""
        if left:
            return f", and ends after about {about} steps, not {self.state.max_steps}"
        self.state.max_steps = self.state.global_step  # the progress bar and trainer_state.json end there as well
        return ""

    def stream_state(self) -> dict[str, Any]:
        """Return where the stream stands, for a checkpoint."""
        return {"epoch": self.stream_epoch, "steps": self.stream_steps, "failed": self.stream.failed}

    def resume_stream(self, checkpoint: Path) -> tuple[int, int]:
        """Return the epoch to go on in and the micro-batches of it that were trained on.

        Raises:
            UserError: The order of this stream depends on the number of processes, and that is another now.
        """
        saved = _saved(checkpoint, self.args.process_index)
        before, now = processes_of(checkpoint, self.args.world_size), self.args.world_size
        self.stream_epoch, self.stream_steps = saved["epoch"], saved["steps"]
        if self.stream.by_shard and before != now:
            self._restart_epoch(checkpoint, before, now)
        self.stream.leave_out(saved["failed"])
        self.resumed_inside = self.stream_steps > 0
        return self.stream_epoch, self.stream_steps * self.args.gradient_accumulation_steps

    def _restart_epoch(self, checkpoint: Path, before: int, now: int) -> None:
        if not self.resume_approximately:
            raise UserError(
                f"data.resume: expected the {before} processes that {checkpoint} was trained on, found {now}: each "
                "process reads shards of its own, so with another number the order is another. Use as many again, or "
                "set data.resume=approximate: the epoch then begins anew, and repeats what was trained on of it."
            )
        logger.warning(
            "data.resume=approximate: %d processes became %d. Epoch %d begins anew: its first %d steps, about %d "
            "clips, come a second time",
            before,
            now,
            self.stream_epoch,
            self.stream_steps,
            self.stream_steps * self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * before,
        )
        self.stream_steps = 0


def _saved(checkpoint: Path, rank: int) -> dict[str, Any]:
    """Return where a process's stream stood; a process that was not there before stands where the first one did."""
    paths = [checkpoint / RUNNING_LOSS.format(number) for number in (rank, 0)]
    found = [json.loads(path.read_text()).get("stream") for path in paths if path.is_file()]
    if not found or not found[0]:
        raise UserError(
            f"training.resume_from_checkpoint: expected a checkpoint that says where its stream stood, found "
            f"{checkpoint}, which does not. Train anew."
        )
    saved: dict[str, Any] = found[0]
    return saved


def steps_of_epochs(args: Any, sampler: StreamBatchSampler) -> list[int]:
    """Return the steps of each epoch of a stream, as far as it tells how long it is.

    Raises:
        UserError: It does not tell, and ``training.max_steps`` is not given.
    """
    if sampler.stream.check_length(args.max_steps) is None:
        return []
    if args.max_steps > 0:
        return [sampler.steps(0)]
    epochs = [sampler.steps(epoch) for epoch in range(math.ceil(args.num_train_epochs))]
    part = args.num_train_epochs - (len(epochs) - 1)
    return [*epochs[:-1], math.ceil(part * epochs[-1])]
