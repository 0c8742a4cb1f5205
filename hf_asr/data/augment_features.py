"""SpecAugment: stretches and bands of a clip's features are masked (Park et al. 2019)."""

from __future__ import annotations

import numpy as np

from hf_asr.config.augmentations import SpecAugment


def masked(features: np.ndarray, settings: SpecAugment, random: np.random.RandomState) -> np.ndarray:
    """Mask a clip's features, without time warping, which the paper found to matter least.

    A stretch's length is drawn evenly from 0 to ``time_share`` of the clip's own frames, as in Park et al. 2020
    (SpecAugment on large scale datasets), so that short clips in a long window are not blanked; a band's width from
    0 to ``frequency_bins``. What is masked becomes the mean of the clip's features: the paper's 0 is the mean of its
    normalised ones.

    Args:
        features: (M, F), without padding.
        settings: How many masks, and how long.
        random: Draws them.

    Returns:
        A masked copy (M, F) of the same type.
    """
    result = features.copy()
    if not result.size:
        return result
    frames, bins = result.shape
    mean = features.mean(dtype=np.float64)
    for _ in range(settings.time_masks):
        result[span(frames, int(settings.time_share * frames), random)] = mean
    for _ in range(settings.frequency_masks):
        result[:, span(bins, min(settings.frequency_bins, bins), random)] = mean
    return result


def span(length: int, longest: int, random: np.random.RandomState) -> slice:
    """Draw a stretch of 0 to ``longest`` places, then where it begins, both evenly."""
    width = random.randint(longest + 1)
    first = random.randint(length - width + 1)
    return slice(first, first + width)
