"""Which clips a process loads next: batches of a number of clips or of padded seconds, or a stream."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from hf_asr.data.buckets import BucketBatchSampler
from hf_asr.data.sampling import Rows, StepBatchSampler, TrainingRows
from hf_asr.data.stream_batches import StreamBatchSampler
from hf_asr.errors import UserError
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.lengths import padded_seconds
from hf_asr.features.streamed import StreamRows
from hf_asr.utterance import Seconds


class LoaderMixin:
    """Replaces ``Trainer.get_train_dataloader``; comes before ``Trainer`` in the bases.

    The host class sets ``train_split`` and ``batch_seconds``.
    """

    args: Any
    data_collator: Any
    train_split: PreparedSplit
    batch_seconds: Seconds | None

    @property
    def streams(self) -> bool:
        """Whether the training split is a stream."""
        return isinstance(self.train_split.rows, StreamRows)

    def get_train_dataloader(self) -> DataLoader:
        """Return a loader that yields this rank's micro-batches; accelerate is not to shard it again."""
        args = self.args
        shared = {
            "collate_fn": self.data_collator,
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory,
            "persistent_workers": args.dataloader_persistent_workers,
            "prefetch_factor": args.dataloader_prefetch_factor if args.dataloader_num_workers else None,
            # An own generator: drawing worker seeds from the global one would move it at every resume.
            "generator": torch.Generator().manual_seed(args.seed),
        }
        rows = self.train_split.rows
        if isinstance(rows, StreamRows):
            return EpochLoader(rows, batch_sampler=self.stream_sampler(rows), **shared)
        packing = self.train_split.packing
        taken: Rows = packing.windows(self.train_split, shuffle=self.shuffles) if packing else rows
        return EpochLoader(TrainingRows(taken), batch_sampler=self.batch_sampler(taken), **shared)

    @property
    def shuffles(self) -> bool:
        """Whether every epoch takes the clips in an order of its own."""
        return str(self.args.train_sampling_strategy) != "sequential"

    def batch_sampler(self, rows: Rows | None = None) -> StepBatchSampler | BucketBatchSampler:
        """Return what cuts this rank's micro-batches from the training split.

        Args:
            rows: Its clips, or the windows that they are joined to; by default its clips.
        """
        args = self.args
        shared = {
            "accumulation": args.gradient_accumulation_steps,
            "num_processes": args.world_size,
            "rank": args.process_index,
            "seed": args.seed,
            "shuffle": self.shuffles,
            "told": self.train_split.epoch,
        }
        clips: Any = self.train_split.rows
        number = len(clips if rows is None else rows)
        if self.batch_seconds is None:
            return StepBatchSampler(number, batch_size=args.per_device_train_batch_size, **shared)
        # Windows change with the epoch, but all take what the model's full window does.
        lengths = [0.0] * number if self.train_split.packing else self.train_split.column("duration")
        seconds = padded_seconds(self.data_collator, lengths)
        return BucketBatchSampler(seconds, batch_seconds=self.batch_seconds, **shared)

    def stream_sampler(self, rows: StreamRows) -> StreamBatchSampler:
        """Return what cuts this rank's micro-batches from a stream."""
        args = self.args
        return StreamBatchSampler(
            rows.stream,
            windows=rows.windows,
            batch_size=args.per_device_train_batch_size,
            batch_seconds=self.batch_seconds,
            padded=partial(padded_seconds, self.data_collator),
            accumulation=args.gradient_accumulation_steps,
            num_processes=args.world_size,
            rank=args.process_index,
            told=self.train_split.epoch,
        )


def take_batches(batches: Iterator[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Take a step's micro-batches, fewer at the end.

    Raises:
        UserError: A clip is bad and data.on_bad_clip is raise; without the traceback that a worker's error comes with.
    """
    try:
        return [batch for _, batch in zip(range(number), batches, strict=False)]
    except UserError as error:
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2].strip()) from error


class EpochLoader(DataLoader):
    """A DataLoader that tells its batch sampler the epoch: the Trainer asks for it."""

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration follow the order of ``epoch``."""
        ordered: Any = self.batch_sampler
        ordered.set_epoch(epoch)
