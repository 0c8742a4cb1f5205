"""Several short clips in one window of Whisper, as it was pretrained: their audio one after the other, their texts
between timestamps.

Features are computed once a clip and joined later, and the result is the one that the model's extractor gives for the
joined audio. Three things make that so. Every clip begins on the grid of the timestamps, 0.02 s, which is two frames,
with at least one frame without a sample before it: its STFT windows see no other clip. Its first frames, which see a
mirrored beginning in a clip of its own and silence in the middle of a window, are kept in both forms. And the extractor
raises everything to 8 below the loudest of the window (in log10): the loudest of all clips is at least as loud as that
of each, so raising once more, to the window's own floor, is raising once.

A clip ends where the next one begins: up to 0.05 s of silence after its last sample. Letters as in
:mod:`hf_asr.utterance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.features.extract import ClipEncoder, LogMelExtractor, TokenLabels, log_mel, padding_value

# Frames of a step of the timestamps: 0.02 s, also a position of the encoder.
GRID = 2
STEP_SECONDS = 0.02
# Part of the cache's fingerprint: raise it when the same clip would keep other frames.
VERSION = 1
# Why a clip is left out of a window that its augmented neighbours have filled.
NO_ROOM = "no_room_in_window: its window was full, since augmentation made its clips longer than they are"


@dataclass(frozen=True, eq=False)
class JointFrames:
    """Joins the log-mel frames of clips.

    Attributes:
        extractor: The checkpoint's own.
    """

    extractor: LogMelExtractor

    @property
    def before(self) -> int:
        """Frames in front of a clip whose STFT window reaches into it."""
        return (self.extractor.n_fft // 2 - 1) // self.extractor.hop_length

    @property
    def begun(self) -> int:
        """Frames of a clip whose STFT window begins in front of it."""
        return -(-(self.extractor.n_fft // 2) // self.extractor.hop_length)

    def context(self, samples: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return a clip's frames as they are behind silence.

        Args:
            samples: (T,) float32.
            features: (M, F) float32, the clip's own.

        Returns:
            (before + begun, F) float32: those in front of the clip and its first ones, all others being its own. All
            (before + M, F) where the mirrored beginning is louder than the clip, which hides quiet frames of the clip's
            own. (0, F) for a clip that fills the window, which is never joined.
        """
        lead = self.before + -(-self.extractor.n_fft // self.extractor.hop_length)
        silence = np.zeros(lead * self.extractor.hop_length, dtype=np.float32)
        if lead + len(features) > self.extractor.nb_max_frames:
            return features[:0]
        behind = log_mel(np.concatenate([silence, samples]), self.extractor)[lead - self.before :]
        assert len(behind) == self.before + len(features), (behind.shape, features.shape)
        return behind if features.max() > behind.max() else behind[: self.before + self.begun]

    def frames(self, seconds: float) -> int:
        """Return the frames from a clip's beginning to the next one's."""
        extractor = self.extractor
        touched = (round(seconds * extractor.sampling_rate) + extractor.n_fft // 2 - 1) // extractor.hop_length + 1
        return self.taken(touched)

    def taken(self, frames: int) -> int:
        """Return the same for a clip of M frames."""
        return -(-(frames + self.before) // GRID) * GRID

    def join(self, rows: Sequence[Mapping[str, Any]], starts: Sequence[int]) -> np.ndarray:
        """Return the features of a window.

        Args:
            rows: Encoded clips, with ``input_features`` (M, F) and ``joint``.
            starts: Frame at which each begins; the first at 0.

        Returns:
            (M, F) in the clips' type, M up to the last frame of the last clip.
        """
        clips = [np.asarray(row["input_features"]) for row in rows]
        window = np.full((starts[-1] + len(clips[-1]), clips[0].shape[1]), -np.inf, dtype=np.float32)
        window[: len(clips[0])] = clips[0]
        for row, clip, start in zip(rows[1:], clips[1:], starts[1:], strict=True):
            joint = np.asarray(row["joint"])
            place = window[start - self.before : start + len(clip)]
            place[: len(joint)] = joint
            place[len(joint) :] = clip[len(joint) - self.before :]
        return np.maximum(window, padding_value(window)).astype(clips[0].dtype)


class JointLabels(Protocol):
    """Writes the label of several clips."""

    @property
    def room(self) -> int:
        """Tokens that clips may have together."""

    def tokens(self, labels: Sequence[int]) -> int:
        """Return the tokens that a clip with these labels takes among others."""

    def join(self, labels: Sequence[Sequence[int]], times: Sequence[tuple[int, int]]) -> list[int]:
        """Return the label ids of clips, given theirs and the frames at which each begins and ends."""

    def read(self, labels: Sequence[int]) -> str:
        """Return labels decoded back."""


@dataclass(frozen=True, eq=False)
class PlainLabels:
    """Writes the label of several clips as that of one whose text is theirs, one after the other.

    Attributes:
        labeller: Writes the label of one clip.
    """

    labeller: TokenLabels

    @property
    def room(self) -> int:
        """Tokens that clips may have together: all positions but the start token's, the prefix's and the end's."""
        return self.labeller.max_tokens - 2 - len(self.labeller.prefix)

    def text(self, labels: Sequence[int]) -> list[int]:
        """Return the ids of the text in a single clip's labels."""
        return list(labels[len(self.labeller.prefix) : -1])

    def tokens(self, labels: Sequence[int]) -> int:
        """Return the tokens of a clip's text."""
        return len(labels) - len(self.labeller.prefix) - 1

    def join(self, labels: Sequence[Sequence[int]], times: Sequence[tuple[int, int]]) -> list[int]:
        """Return the label ids of a window; times are not written."""
        texts = [id for own in labels for id in self.text(own)]
        return [*self.labeller.prefix, *texts, self.labeller.end_token]

    def read(self, labels: Sequence[int]) -> str:
        """Return labels decoded back."""
        return self.labeller.read(labels)


@dataclass(frozen=True, eq=False)
class TimestampLabels:
    """Writes the label of several clips: each text between the times at which it begins and ends.

    Attributes:
        labeller: Writes the label of one clip, without timestamps.
        no_timestamps: Id of ``<|notimestamps|>``, which its prefix ends with.
        stamps: Ids of ``<|0.00|>``, ``<|0.02|>`` ... up to the window's end.
    """

    labeller: TokenLabels
    no_timestamps: int
    stamps: tuple[int, ...]

    @property
    def prefix(self) -> tuple[int, ...]:
        """Ids before the first timestamp: language and task, nothing for an English-only model."""
        return tuple(id for id in self.labeller.prefix if id != self.no_timestamps)

    @property
    def room(self) -> int:
        """Tokens that clips may have together: all positions but the start token's, the prefix's and the end's."""
        return self.labeller.max_tokens - 2 - len(self.prefix)

    def text(self, labels: Sequence[int]) -> list[int]:
        """Return the ids of the text in a single clip's labels."""
        return list(labels[len(self.labeller.prefix) : -1])

    def tokens(self, labels: Sequence[int]) -> int:
        """Return the tokens that a clip takes among others: its text and two timestamps; 0 without a text."""
        text = len(labels) - len(self.labeller.prefix) - 1
        return text + 2 if text > 0 else 0

    def join(self, labels: Sequence[Sequence[int]], times: Sequence[tuple[int, int]]) -> list[int]:
        """Return the label ids of a window.

        Args:
            labels: Those of its clips.
            times: Frames at which each begins and ends; a clip without a text is silence and has no timestamps.
        """
        joined: list[int] = [*self.prefix]
        for own, (start, end) in zip(labels, times, strict=True):
            if text := self.text(own):
                last = min(end // GRID, len(self.stamps) - 1)
                joined += [self.stamps[start // GRID], *text, self.stamps[last]]
        return [*joined, self.labeller.end_token]

    def read(self, labels: Sequence[int]) -> str:
        """Return labels decoded back; the tokenizer's own decoding leaves timestamps out."""
        times = {id: f"<|{place * STEP_SECONDS:.2f}|>" for place, id in enumerate(self.stamps)}
        runs: list[list[int]] = [[]]
        for id in labels:
            runs += [[id], []] if id in times else []
            if id not in times:
                runs[-1].append(id)
        return "".join(times[run[0]] if run[0] in times else self.labeller.read(run) for run in runs if run)


@dataclass(frozen=True, eq=False)
class Joiner:
    """Joins encoded clips to one row; what :class:`hf_asr.features.extract.ClipEncoder` calls ``joining``.

    Attributes:
        features: Joins frames.
        labels: Joins labels.
    """

    features: JointFrames
    labels: JointLabels

    def context(self, samples: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return what is kept of a clip beside its own features."""
        return self.features.context(samples, features)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells rows that can be joined from others."""
        return {"joint": VERSION}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Join the rows of a window.

        A clip with an error, or for which there is no room after all, is left out and listed in ``dropped`` with its
        error, as a stream does. One clip alone is returned as it is, without timestamps.

        Returns:
            A row as of one clip, its id those of all joined by ``+``, and ``pieces``, the ids.
        """
        whole = [row for row in rows if not row["error"]]
        if not whole:
            return _with_drops(dict(rows[0]), rows[1:], rows)
        kept, starts = self._placed(whole)
        left_out = [row for row in rows if row["error"]]
        left_out += [{**row, "error": NO_ROOM} for row in whole if all(row is not other for other in kept)]
        row = dict(kept[0]) if len(kept) == 1 else self._joined(kept, starts)
        return _with_drops(row, left_out, rows)

    def _placed(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[int]]:
        """Return the rows that fit into one window, and the frame at which each begins."""
        kept: list[Mapping[str, Any]] = []
        starts: list[int] = []
        start = tokens = 0
        for row in rows:
            frames, more = len(row["input_features"]), self.labels.tokens(row["labels"])
            fits = start + frames <= self.features.extractor.nb_max_frames and tokens + more <= self.labels.room
            if not kept or (fits and len(row["joint"])):
                kept.append(row)
                starts.append(start)
                start, tokens = start + self.features.taken(frames), tokens + more
        return kept, starts

    def _joined(self, rows: Sequence[Mapping[str, Any]], starts: Sequence[int]) -> dict[str, Any]:
        lengths = [len(row["input_features"]) for row in rows]
        times = [(start, start + self.features.taken(length)) for start, length in zip(starts, lengths, strict=True)]
        ids = [str(row["id"]) for row in rows]
        return {
            **rows[0],
            "id": "+".join(ids),
            "pieces": ids,
            "text": " ".join(row["text"] for row in rows),
            "duration": sum(row["duration"] for row in rows),
            "input_features": self.features.join(rows, starts),
            "labels": self.labels.join([row["labels"] for row in rows], times),
        }


def check_packing(arguments: Arguments, encoder: ClipEncoder) -> None:
    """See that clips can be joined for this model.

    Raises:
        UserError: They cannot.
    """
    if arguments.data.pack and encoder.joining is None:
        raise UserError(
            "data.pack: expected a Whisper, whose window of 30 s clips are joined in and whose tokens tell when each "
            "begins, found a model of another family. Set data.pack=false; data.batch_seconds saves its padding."
        )


def _with_drops(
    row: dict[str, Any], left_out: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a window's row with what its clips brought along, and without what only joining needs."""
    dropped = [item for other in rows for item in other.get("dropped", ())]
    dropped += [{"id": other["id"], "error": other["error"]} for other in left_out]
    row.pop("joint", None)
    return {"pieces": [row["id"]], **row, "dropped": dropped}
