"""From encoded rows to a batch: inputs padded as the family's encoder takes them, then its labels."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from hf_asr.features.extract import padding_value
from hf_asr.features.positions import POSITIONS_MULTIPLE, Window

IGNORED = -100
# What labels are padded to a multiple of where the step is compiled: each length is a shape of its own.
LABEL_BUCKET = 8


class InputPadder(Protocol):
    """From clips of several lengths to the encoder's inputs."""

    def __call__(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return inputs by their names, of (M, F) clips; without any clip, those of one clip of silence."""


class Collator(Protocol):
    """From encoded rows to a batch: inputs, ``labels``, and the bookkeeping ``ids`` and ``skipped``."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class WindowPadder:
    """Fills clips up to the one window that an encoder takes, as Whisper's does; it has no attention mask.

    Attributes:
        window_frames: Frames that the encoder takes (M of the batch).
        feature_size: Mel bins (F).
        name: Name of the input.
    """

    window_frames: int
    feature_size: int
    name: str = "input_features"

    def __call__(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return ``input_features`` float32 (B, F, M), the silence after a clip as the extractor writes it.

        Of states, which a bank gives in the place of features: ``encoder_outputs``, see :func:`padded_states`.
        """
        if are_states(clips):
            return padded_states(clips, weighted=False)
        return {self.name: filled_with_silence(clips, self.window_frames, self.feature_size)}


@dataclass(frozen=True)
class PlannedPadder:
    """Fills clips up to the batch's longest and says which positions of Whisper's window are computed.

    Attributes:
        window: How much of the window a clip keeps.
        feature_size: Mel bins (F).
        name: Name of the input.
    """

    window: Window
    feature_size: int
    name: str = "input_features"

    def __call__(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return ``input_features`` float32 (B, F, M), and ``positions`` and ``log_weights`` (B, S) of the plan, see
        :meth:`~hf_asr.features.positions.Window.of_batch`.

        Of states, which a bank gives in the place of features: see :func:`padded_states`.
        """
        if are_states(clips):
            return padded_states(clips, weighted=True)
        frames = [len(clip) for clip in clips] or [0]
        features = filled_with_silence(clips, self.window.padded_frames(frames), self.feature_size)
        return {self.name: features, **self.window.of_batch(frames)}


@dataclass(frozen=True)
class MixedPadder:
    """Gives a share of the batches the whole window, so that a model which is trained on less keeps working on it.

    Which ones is a function of the seed and the batch's clips: the same in any worker, and after a resume.

    Attributes:
        whole: Pads these batches.
        part: Pads the others.
        share: Of all batches, 0 to 1.
        seed: ``experiment.seed``.
    """

    whole: InputPadder
    part: InputPadder
    share: float
    seed: int

    def __call__(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return what the chosen padder returns."""
        drawn = zlib.crc32(f"{self.seed}".encode())
        for clip in clips:
            drawn = zlib.crc32(clip[len(clip) // 2 :][:1].astype(np.float32).tobytes(), drawn)
        return (self.whole if drawn < self.share * 2**32 else self.part)(clips)


def are_states(clips: Sequence[np.ndarray]) -> bool:
    """Tell whether clips are states (1, S, D) of a bank, not features (M, F)."""
    return bool(clips) and clips[0].ndim == 3


def padded_states(clips: Sequence[np.ndarray], *, weighted: bool) -> dict[str, torch.Tensor]:
    """Return ``encoder_outputs`` (B, S, D) of states (1, S, D), in the type they are stored in.

    Args:
        clips: States; of a window that is not full (1, S, D + 1), the last number being the key's weight.
        weighted: Whether they are such. Then ``log_weights`` float32 (B, S) are beside them, -inf behind a clip.
    """
    lengths = [clip.shape[1] for clip in clips]
    if not weighted:
        assert len(set(lengths)) == 1, f"states of a full window, found {lengths}"
        return {"encoder_outputs": torch.from_numpy(np.concatenate(clips))}
    size = -(-max(lengths) // POSITIONS_MULTIPLE) * POSITIONS_MULTIPLE
    states = np.zeros((len(clips), size, clips[0].shape[2] - 1), dtype=clips[0].dtype)
    weights = np.zeros((len(clips), size), dtype=np.float32)
    for index, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
        states[index, :length] = clip[0, :, :-1]
        weights[index, :length] = clip[0, :, -1]
    return {"encoder_outputs": torch.from_numpy(states), "log_weights": torch.from_numpy(weights).log()}


def filled_with_silence(clips: Sequence[np.ndarray], frames: int, feature_size: int) -> torch.Tensor:
    """Return float32 (B, F, M) of (M, F) clips, the silence after each as Whisper's extractor writes it."""
    batch = np.zeros((max(len(clips), 1), feature_size, frames), dtype=np.float32)
    for index, clip in enumerate(clips):
        assert clip.shape[1:] == (feature_size,), clip.shape
        assert len(clip) <= frames, clip.shape
        batch[index, :, : len(clip)] = clip.T
        batch[index, :, len(clip) :] = padding_value(clip)
    return torch.from_numpy(batch)


@dataclass(frozen=True)
class LongestPadder:
    """Pads clips with zeros to the batch's longest and says in ``attention_mask`` where they end.

    Attributes:
        feature_size: Numbers a frame (F).
        name: Name of the input; a waveform (F = 1) is given as (B, T).
        min_frames: Shortest batch that the encoder takes.
        with_mask: Whether the encoder takes an attention mask.
        waveform: Whether frames are samples.
    """

    feature_size: int
    name: str = "input_features"
    min_frames: int = 1
    with_mask: bool = True
    waveform: bool = False

    def __call__(self, clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Return the input float32 (B, M, F), or (B, T), and ``attention_mask`` int64 (B, M)."""
        frames = max([self.min_frames, *(len(clip) for clip in clips)])
        batch = np.zeros((max(len(clips), 1), frames, self.feature_size), dtype=np.float32)
        mask = np.zeros(batch.shape[:2], dtype=np.int64)
        for index, clip in enumerate(clips):
            assert clip.shape[1:] == (self.feature_size,), clip.shape
            batch[index, : len(clip)] = clip
            mask[index, : len(clip)] = 1
        if not clips:
            mask[:] = 1
        inputs = {self.name: torch.from_numpy(batch[:, :, 0] if self.waveform else batch)}
        return inputs | ({"attention_mask": torch.from_numpy(mask)} if self.with_mask else {})


@dataclass(frozen=True)
class Rows:
    """The rows of a batch, sorted out.

    Attributes:
        kept: Rows that can be used.
        fillers: Places among them of rows that only give a process a batch (``padding: True``).
        ids: Ids of those that are no fillers; of a window of several clips (``pieces``) those of its clips.
        skipped: (id, error) of those that cannot be used; windows of several clips tell theirs in ``dropped``.
    """

    kept: list[Mapping[str, Any]]
    fillers: list[int]
    ids: list[str]
    skipped: list[tuple[str, str]]

    @classmethod
    def sorted_out(cls, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Leave out the rows with an error and find the fillers."""
        kept = [row for row in rows if not _error_of(row)]
        return cls(
            kept=kept,
            fillers=[index for index, row in enumerate(kept) if _is_filler(row)],
            ids=[id for row in kept if not _is_filler(row) for id in row.get("pieces", [row["id"]])],
            skipped=[item for row in rows if not _is_filler(row) for item in _skipped_with(row)],
        )

    def clips(self) -> list[np.ndarray]:
        """Return the features (M, F) of the rows that are kept."""
        return [np.asarray(row["input_features"]) for row in self.kept]


@dataclass(frozen=True)
class LabelCollator:
    """Makes batches with padded label sequences: CTC.

    Attributes:
        padder: Pads the inputs.
    """

    padder: InputPadder

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows of :class:`hf_asr.features.extract.ClipEncoder`.

        A row with ``padding: True`` is a filler that gives a process a batch: it keeps its features, all its labels
        are ignored and its id is not listed. Rows with an error are left out and reported. When no row is left, the
        batch is one filler of zeros.

        Returns:
            The padder's inputs, ``labels`` int64 (B, L) filled with -100 on the right, ``ids`` (of the clips that are
            not fillers) and ``skipped``, (id, error) pairs.
        """
        found = Rows.sorted_out(rows)
        labels = pad_labels([list(row["labels"]) for row in found.kept] or [[IGNORED]])
        labels[found.fillers] = IGNORED
        return {**self.padder(found.clips()), "labels": labels, "ids": found.ids, "skipped": found.skipped}


@dataclass(frozen=True)
class Seq2SeqCollator:
    """Makes batches for an encoder-decoder.

    Attributes:
        padder: Pads the encoder's inputs.
        start_token: ``decoder_start_token_id``; not ``bos_token_id``, which for Whisper is another token.
        pad_token: Fills ``decoder_input_ids``; the loss never sees it.
        most_labels: Positions that the decoder has; None for any number.
        label_multiple: What L is rounded up to a multiple of, within ``most_labels``.

    Two clips with the labels ``[7, 8, 9]`` and ``[7, 9]`` and start token 1, pad token 0 give::

        labels            [[7, 8, 9], [7, 9, -100]]
        decoder_input_ids [[1, 7, 8], [1, 7, 0]]
    """

    padder: InputPadder
    start_token: int
    pad_token: int
    most_labels: int | None = None
    label_multiple: int = 1

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows as :class:`LabelCollator` does, with the decoder's inputs beside the labels.

        Returns:
            What :class:`LabelCollator` returns, and ``decoder_input_ids`` int64 (B, L): the labels one place later
            behind the start token.
        """
        batch = LabelCollator(self.padder)(rows)
        clips = [list(row["labels"]) for row in Rows.sorted_out(rows).kept] or [[IGNORED]]
        # A clip without words may be the end token alone, which for Speech2Text is the start token as well.
        begun = [clip for clip in clips if len(clip) > 1 and clip[0] == self.start_token]
        assert not begun, "the collator adds the start token, not the labels"
        shifted = pad_labels([[self.start_token, *clip[:-1]] for clip in clips], self.pad_token)
        more = (0, self._bucket(shifted.shape[1]) - shifted.shape[1])
        labels = functional.pad(batch["labels"], more, value=IGNORED)
        return {**batch, "labels": labels, "decoder_input_ids": functional.pad(shifted, more, value=self.pad_token)}

    def _bucket(self, length: int) -> int:
        rounded = -(-length // self.label_multiple) * self.label_multiple
        return rounded if self.most_labels is None else max(length, min(rounded, self.most_labels))


@dataclass(frozen=True)
class TargetCollator:
    """Makes batches with one target a clip: a class's number, or a number.

    Attributes:
        padder: Pads the inputs.
        dtype: Of the targets: ``torch.int64`` for classes, ``torch.float32`` for numbers.
    """

    padder: InputPadder
    dtype: torch.dtype = torch.int64

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows as :class:`LabelCollator` does.

        Returns:
            The padder's inputs, ``labels`` (B,), -100 for fillers (nan among float targets), ``ids`` and ``skipped``.
        """
        found = Rows.sorted_out(rows)
        ignored = float("nan") if self.dtype.is_floating_point else IGNORED
        labels = torch.tensor([row["labels"][0] for row in found.kept] or [ignored], dtype=self.dtype)
        labels[found.fillers] = ignored
        return {**self.padder(found.clips()), "labels": labels, "ids": found.ids, "skipped": found.skipped}


def ignored_like(labels: torch.Tensor) -> torch.Tensor:
    """Return labels of the same shape that count nothing: -100, or nan where they are numbers."""
    return torch.full_like(labels, float("nan") if labels.is_floating_point() else IGNORED)


def pad_labels(clips: Sequence[Sequence[int]], fill: int = IGNORED) -> torch.Tensor:
    """Return int64 (B, L) of label sequences, filled on the right."""
    labels = torch.full((len(clips), max(len(clip) for clip in clips)), fill, dtype=torch.int64)
    for index, clip in enumerate(clips):
        labels[index, : len(clip)] = torch.tensor(clip)
    return labels


def _error_of(row: Mapping[str, Any]) -> str:
    return str(row.get("error", ""))


def _skipped_with(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    own = [(row["id"], row["error"])] if _error_of(row) else []
    return own + [(item["id"], item["error"]) for item in row.get("dropped", ())]


def _is_filler(row: Mapping[str, Any]) -> bool:
    return bool(row.get("padding", False))
