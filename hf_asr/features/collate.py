"""From encoded rows to a batch: features filled up to the window, labels, and the decoder's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hf_asr.features.extract import padding_value

IGNORED = -100


@dataclass(frozen=True)
class Seq2SeqCollator:
    """Makes batches for an encoder-decoder whose encoder takes one fixed window.

    Attributes:
        start_token: ``decoder_start_token_id``; not ``bos_token_id``, which for Whisper is another token.
        pad_token: Fills ``decoder_input_ids``; the loss never sees it.
        window_frames: Frames that the encoder takes (M of the batch).
        feature_size: Mel bins (F).

    Two clips with the labels ``[7, 8, 9]`` and ``[7, 9]`` and start token 1, pad token 0 give::

        labels            [[7, 8, 9], [7, 9, -100]]
        decoder_input_ids [[1, 7, 8], [1, 7, 0]]
    """

    start_token: int
    pad_token: int
    window_frames: int
    feature_size: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows of :class:`hf_asr.features.extract.ClipEncoder`.

        A row with ``padding: True`` is a filler that gives a process a batch: it keeps its features, all its labels
        are ignored and its id is not listed. Rows with an error are left out and reported. When no row is left, the
        batch is one filler of zeros.

        Returns:
            ``input_features`` float32 (B, F, M), ``labels`` int64 (B, L) filled with -100 on the right,
            ``decoder_input_ids`` int64 (B, L), ``ids`` (of the clips that are not fillers) and ``skipped``,
            (id, error) pairs, also of what a stream left out before these rows (their column ``dropped``).
        """
        skipped = [item for row in rows if not _is_filler(row) for item in _skipped_with(row)]
        kept = [row for row in rows if not _error_of(row)]
        labels, decoder_inputs = self._tokens([list(row["labels"]) for row in kept] or [[IGNORED]])
        fillers = [index for index, row in enumerate(kept) if _is_filler(row)]
        labels[fillers] = IGNORED
        return {
            "input_features": self._features([np.asarray(row["input_features"]) for row in kept]),
            "labels": labels,
            "decoder_input_ids": decoder_inputs,
            "ids": [row["id"] for row in kept if not _is_filler(row)],
            "skipped": skipped,
        }

    def _features(self, clips: Sequence[np.ndarray]) -> torch.Tensor:
        batch = np.zeros((max(len(clips), 1), self.feature_size, self.window_frames), dtype=np.float32)
        for index, clip in enumerate(clips):
            assert clip.shape[1:] == (self.feature_size,), clip.shape
            assert len(clip) <= self.window_frames, clip.shape
            batch[index, :, : len(clip)] = clip.T
            batch[index, :, len(clip) :] = padding_value(clip)
        return torch.from_numpy(batch)

    def _tokens(self, clips: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return labels and decoder inputs, the labels one place later behind the start token; both (B, L)."""
        longest = max(len(clip) for clip in clips)
        labels = torch.full((len(clips), longest), IGNORED, dtype=torch.int64)
        decoder_inputs = torch.full((len(clips), longest), self.pad_token, dtype=torch.int64)
        decoder_inputs[:, 0] = self.start_token
        for index, clip in enumerate(clips):
            assert clip[0] != self.start_token, "the collator adds the start token, labels must not have it"
            labels[index, : len(clip)] = torch.tensor(clip)
            decoder_inputs[index, 1 : len(clip)] = torch.tensor(clip[:-1])
        return labels, decoder_inputs


def _error_of(row: Mapping[str, Any]) -> str:
    return str(row.get("error", ""))


def _skipped_with(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    own = [(row["id"], row["error"])] if _error_of(row) else []
    return own + [(item["id"], item["error"]) for item in row.get("dropped", ())]


def _is_filler(row: Mapping[str, Any]) -> bool:
    return bool(row.get("padding", False))
