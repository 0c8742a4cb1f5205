"""SpecAugment: how much is masked, with what, and that a clip's own length decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.config.augmentations import SpecAugment
from hf_asr.data.augment_features import masked, span


def features(frames: int, bins: int = 80, dtype: str = "float16") -> np.ndarray:
    return np.random.RandomState(0).standard_normal((frames, bins)).astype(dtype)


@given(
    frames=st.integers(0, 120),
    bins=st.integers(1, 90),
    share=st.floats(0, 1),
    width=st.integers(1, 100),
    counts=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    seed=st.integers(0, 999),
)
def test_masks_stay_within_their_lengths(
    frames: int, bins: int, share: float, width: int, counts: tuple[int, int], seed: int
) -> None:
    clip = features(frames, bins)
    settings = SpecAugment(time_masks=counts[0], time_share=share, frequency_masks=counts[1], frequency_bins=width)
    before = clip.copy()
    found = masked(clip, settings, np.random.RandomState(seed))
    np.testing.assert_array_equal(clip, before)
    assert (found.shape, found.dtype) == (clip.shape, clip.dtype)
    if not clip.size:
        return
    changed = found != clip
    mean = clip.mean(dtype=np.float64).astype(clip.dtype)
    assert (found[changed] == mean).all()
    whole_bands = (found == mean).all(axis=0)
    assert whole_bands.sum() <= counts[1] * width or (found == mean).all()
    rows = (found == mean)[:, ~whole_bands].all(axis=1)
    assert rows.sum() <= counts[0] * int(share * frames) or whole_bands.all()


@pytest.mark.parametrize("frames", [100, 1000])
def test_a_stretch_follows_the_clips_own_length(frames: int) -> None:
    settings = SpecAugment(time_masks=1, time_share=0.2, frequency_masks=0)
    clip = features(frames)
    lengths = [
        int((masked(clip, settings, np.random.RandomState(seed)) != clip).any(axis=1).sum()) for seed in range(400)
    ]
    assert max(lengths) == pytest.approx(0.2 * frames, rel=0.06) and min(lengths) == 0
    assert np.mean(lengths) == pytest.approx(0.1 * frames, rel=0.1)


def test_a_stretch_begins_anywhere() -> None:
    starts = [span(10, 3, np.random.RandomState(seed)) for seed in range(300)]
    assert {part.stop - part.start for part in starts} == {0, 1, 2, 3}
    assert min(part.start for part in starts) == 0 and max(part.stop for part in starts) == 10
