"""A training split whose clips are packed into windows: a table's anew in every epoch, a stream's as they come."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import datasets
from torch.utils.data import Dataset

from hf_asr.config.arguments import Arguments
from hf_asr.data.audio import SAMPLE_RATE, BrokenAudio, prepare
from hf_asr.data.packing import CLIPS_AT_ONCE, ClipSizes, Pieces, Room, WindowPlan, share_packed, windows_of_part
from hf_asr.data.sampling import Epoch
from hf_asr.data.stream import Stream
from hf_asr.data.stream_order import Place
from hf_asr.features.augmented import Masker
from hf_asr.features.cache import LiveRows, PreparedSplit
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.packing import Joiner
from hf_asr.features.streamed import StreamRows
from hf_asr.features.together import decoding_threads
from hf_asr.utterance import AudioRef

logger = logging.getLogger(__name__)

# Rows that are decoded at once when their lengths are measured.
MEASURED_AT_ONCE = 256
# The steps in which a speed is drawn make a clip longer than its slowest speed says, by less than this.
ROUNDED_SPEED = 1.01


class PackedWindows(Dataset[dict[str, Any]]):
    """The windows of a table, joined when they are asked for.

    Args:
        rows: The clips' rows.
        plan: Which clips each window holds.
        joiner: Joins them.
        masker: SpecAugment of whole windows.
        epoch: The epoch now.
    """

    def __init__(self, rows: Any, plan: WindowPlan, joiner: Joiner, masker: Masker, epoch: Epoch) -> None:
        self.rows = rows
        self.plan = plan
        self.joiner = joiner
        self.masker = masker
        self.epoch = epoch
        self._planned: tuple[int, list[Pieces]] = (-1, [])

    def __len__(self) -> int:
        return self.plan.num_windows

    def __getitem__(self, index: int) -> dict[str, Any]:
        clips = self._windows()[index]
        return self.masker(self.joiner([self.rows[clip] for clip in clips]))

    def _windows(self) -> list[Pieces]:
        """Return the windows of the epoch now; each process works them out once an epoch."""
        epoch = self.epoch.value
        if self._planned[0] != epoch:
            self._planned = (epoch, self.plan.windows(epoch))
        return self._planned[1]


@dataclass(frozen=True, eq=False)
class PackedTraining:
    """How the clips of a training split are joined.

    Attributes:
        joiner: Joins clips.
        masker: SpecAugment of whole windows, by their clips and the epoch.
        share: ``data.pack_share``.
        any_speaker: Whether ``data.pack_speakers`` is ``any``.
        seed: ``experiment.seed``.
        labeller: The encoder's: from a row to its label.
        slowest: The lowest speed that augmentation gives a clip.
    """

    joiner: Joiner
    masker: Masker
    share: float
    any_speaker: bool
    seed: int
    labeller: Any
    slowest: float = 1.0

    @property
    def room(self) -> Room:
        """What a window holds."""
        return Room(self.joiner.features.extractor.nb_max_frames, self.joiner.labels.room)

    def windows(self, split: PreparedSplit, *, shuffle: bool) -> PackedWindows:
        """Return the windows of a table; ``shuffle`` gives every epoch its own."""
        assert split.epoch is not None and split.table is not None
        plan = WindowPlan(
            self.sizes(split),
            split.column("id"),
            self.room,
            share=self.share,
            any_speaker=self.any_speaker,
            seed=self.seed,
            shuffle=shuffle,
        )
        logger.info(
            "data.pack: %d clips in %d windows an epoch, %.0f %% of them of several clips, %.0f %% filled",
            len(plan.sizes),
            plan.num_windows,
            100 * share_packed(plan.first),
            100 * plan.filled(),
        )
        return PackedWindows(split.rows, plan, self.joiner, self.masker, split.epoch)

    def sizes(self, split: PreparedSplit) -> ClipSizes:
        """Return what each clip takes; without a cache every clip is decoded once to find its length."""
        table = split.table
        assert table is not None
        if isinstance(split.rows, LiveRows):
            measured = self._measured(table, split.rows.encoder)
        else:
            measured = list(zip(table["duration"], map(self.joiner.labels.tokens, table["labels"]), strict=True))
        longer = 1.0 if self.slowest >= 1 else ROUNDED_SPEED / self.slowest
        frames = [self.joiner.features.frames(seconds * longer) for seconds, _ in measured]
        return ClipSizes(frames, [tokens for _, tokens in measured], split.column("speaker"))

    def stream_windows(self, stream: Stream, found: Iterator[Place]) -> Iterator[tuple[Place, ...]]:
        """Yield the windows of a stream: the places of so many clips at a time, packed by their listed lengths.

        Args:
            stream: The stream.
            found: Its places, in their order.
        """
        shared: dict[str, Any] = {"share": self.share, "any_speaker": self.any_speaker, "seed": self.seed}
        longer = 1.0 if self.slowest >= 1 else ROUNDED_SPEED / self.slowest
        while block := list(islice(found, CLIPS_AT_ONCE)):
            clips = [stream.row(place) for place in block]
            frames = [self.joiner.features.frames(seconds * longer) for seconds in stream.seconds(block)]
            tokens = [self.joiner.labels.tokens(self.labeller(clip)) for clip in clips]
            sizes = ClipSizes(frames, tokens, [clip["speaker"] for clip in clips])
            for window in windows_of_part(sizes, clips[0]["id"], self.room, **shared):
                yield tuple(block[clip] for clip in window)

    def join(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Join the encoded rows of a window, then mask it."""
        return self.masker(self.joiner(rows))

    def of_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Join encoded rows in their order."""
        joiner = self.joiner
        frames = [joiner.features.taken(len(row["input_features"])) for row in rows]
        tokens = [joiner.labels.tokens(row["labels"]) for row in rows]
        sizes = ClipSizes(frames, tokens, [row["speaker"] for row in rows])
        shared: dict[str, Any] = {"share": self.share, "any_speaker": self.any_speaker, "seed": self.seed}
        windows = windows_of_part(sizes, rows[0]["id"], self.room, **shared)
        return [self.masker(joiner([rows[clip] for clip in window])) for window in windows]

    def _measured(self, table: datasets.Dataset, encoder: ClipEncoder) -> list[tuple[float, int]]:
        """Return seconds and tokens of each clip of a table that is not cached; one that is broken fills a window."""
        logger.info("data.pack: decoding %d clips once for their lengths; features.cache=true keeps them", len(table))
        measured: list[tuple[float, int]] = []
        with decoding_threads(max(1, len(os.sched_getaffinity(0)))) as pool:
            for first in range(0, len(table), MEASURED_AT_ONCE):
                rows = [table[place] for place in range(first, min(first + MEASURED_AT_ONCE, len(table)))]
                labels = [self.joiner.labels.tokens(encoder.labeller(row)) for row in rows]  # type: ignore[arg-type]
                seconds = pool.map(_Length(encoder), rows)
                measured += zip(seconds, labels, strict=True)
        return measured


@dataclass(frozen=True, eq=False)
class _Length:
    """Measures a clip as it is prepared, in seconds; one that is broken is as long as the window."""

    encoder: ClipEncoder

    def __call__(self, row: Mapping[str, Any]) -> float:
        try:
            return len(prepare(AudioRef(**row["audio"]), self.encoder.level, self.encoder.trim_silence)) / SAMPLE_RATE
        except BrokenAudio:
            return self.encoder.front_end.longest_seconds


def packing_of(encoder: ClipEncoder, arguments: Arguments, epoch: Epoch | None = None) -> PackedTraining | None:
    """Return how training clips are joined; None where they are not.

    Args:
        encoder: The family's.
        arguments: The whole configuration.
        epoch: Is told every epoch that begins.
    """
    if not isinstance(encoder.joining, Joiner):
        return None
    chosen, seed = arguments.augment.chosen(), arguments.experiment.seed
    return PackedTraining(
        encoder.joining,
        Masker(chosen.get("spec_augment"), seed, epoch or Epoch()),
        share=arguments.data.pack_share,
        any_speaker=arguments.data.pack_speakers == "any",
        seed=seed,
        labeller=encoder.labeller,
        slowest=min([1.0, *chosen["speed"].factor]) if "speed" in chosen else 1.0,
    )


def with_packing(split: PreparedSplit, encoder: ClipEncoder, arguments: Arguments) -> PreparedSplit:
    """Return a training split whose clips are joined while training; the split itself still has one row a clip.

    Args:
        split: Encoded by ``encoder``.
        encoder: The family's.
        arguments: The whole configuration.
    """
    epoch = split.epoch or Epoch()
    packing = packing_of(encoder, arguments, epoch)
    if packing is None:
        return split
    if isinstance(split.rows, StreamRows):
        return replace(split, rows=split.rows.joined(packing.join, packing.stream_windows), epoch=epoch)
    return replace(split, packing=packing, epoch=epoch)
