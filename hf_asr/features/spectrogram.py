"""Whisper's log-mel spectrogram of one clip, computed over the clip alone: what preparation spends its time on.

The steps are those of transformers' WhisperFeatureExtractor (5.23), in torch: frames of ``n_fft`` samples under a
Hann window, power spectrum, mel filters, log10, a floor 8 below the clip's maximum, (x + 4) / 4. Against the extractor
run on the same samples it takes 1.5 ms instead of 2.2 for 5.4 s of speech on one core: window and filters are kept, and
the power is a sum of squares and not a magnitude squared. Largest difference seen 1.2e-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

# Of WhisperFeatureExtractor: the least power, and how far below the loudest a frame may lie, in decades.
FLOOR = 1e-10
DECADES = 8.0


@dataclass(frozen=True, eq=False)
class Bank:
    """What every clip of an extractor needs.

    Attributes:
        window: (n_fft,) Hann window.
        filters: (n_fft // 2 + 1, F) mel filters.
    """

    window: torch.Tensor
    filters: torch.Tensor


@torch.no_grad()
def spectrogram(samples: np.ndarray, length: int, extractor: Any) -> np.ndarray:
    """Compute the log-mel spectrogram of samples, cut or filled with zeros to a length.

    Args:
        samples: (T,) float32.
        length: Samples that are looked at, at least ``n_fft``.
        extractor: A WhisperFeatureExtractor without dither.

    Returns:
        (M, F) float32 of all frames that begin within ``length``.
    """
    bank = bank_of(extractor)
    mels = _log_mels(_mirrored(samples, length, extractor.n_fft), bank, extractor)
    found: np.ndarray = torch.maximum(mels, mels.max() - DECADES).add_(4.0).div_(4.0).numpy()
    return found


@torch.no_grad()
def spectrograms(
    clips: Sequence[np.ndarray], lengths: Sequence[int], extractor: Any, device: torch.device
) -> list[np.ndarray]:
    """Compute the spectrograms of several clips together on a device, as :func:`spectrogram` does one by one.

    Sums are made in another order there: values differ by about 1e-6. The filters are applied in float64, which no
    setting of matrix products rounds (``training.tf32`` would change values by 5e-5).

    Args:
        clips: (T,) float32 each.
        lengths: Samples that are looked at of each, at least ``n_fft``.
        extractor: A WhisperFeatureExtractor without dither.
        device: Where.

    Returns:
        (M, F) float32 of each.
    """
    bank = bank_of(extractor)
    there = Bank(bank.window.to(device), bank.filters.to(device, torch.float64))
    mirrored = [_mirrored(clip, length, extractor.n_fft) for clip, length in zip(clips, lengths, strict=True)]
    frames = torch.tensor([length // extractor.hop_length for length in lengths], device=device)
    mels = _log_mels(torch.nn.utils.rnn.pad_sequence(mirrored, batch_first=True).to(device), there, extractor)
    own = torch.arange(mels.shape[1], device=device) < frames[:, None]
    loudest = mels.amax(2).masked_fill(~own, -torch.inf).amax(1)
    found = torch.maximum(mels, loudest[:, None, None] - DECADES).add_(4.0).div_(4.0).cpu().numpy()
    return [each[:count] for each, count in zip(found, frames.tolist(), strict=True)]


def _mirrored(samples: np.ndarray, length: int, n_fft: int) -> torch.Tensor:
    """Return samples cut or filled to a length, with half a window mirrored at both ends as ``center=True`` does."""
    there, half = min(len(samples), length), n_fft // 2
    clip = torch.zeros(length)
    clip[:there] = torch.from_numpy(samples[:there])
    return torch.nn.functional.pad(clip[None], (half, half), mode="reflect")[0]


def _log_mels(mirrored: torch.Tensor, bank: Bank, extractor: Any) -> torch.Tensor:
    """Return log10 of the mel powers (..., M, F) of samples (..., T); the last frame is left out, as Whisper does."""
    frames = mirrored.unfold(-1, extractor.n_fft, extractor.hop_length)[..., :-1, :]
    spectrum = torch.view_as_real(torch.fft.rfft(frames * bank.window))
    power = spectrum.square_().sum(-1).to(bank.filters.dtype)
    return (power @ bank.filters).float().clamp_(min=FLOOR).log10_()


@lru_cache(maxsize=8)
def bank_of(extractor: Any) -> Bank:
    """Return an extractor's window and filters, made once."""
    filters = torch.from_numpy(np.asarray(extractor.mel_filters)).float().contiguous()
    return Bank(torch.hann_window(extractor.n_fft), filters)
