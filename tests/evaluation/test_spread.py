"""Intervals over seeds and clips: quantiles against tables, and coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_asr.evaluation.spread import drawn_sums, estimate, student_quantile


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [  # Any table of Student's t.
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 5, 2.571),
        (0.975, 30, 2.042),
        (0.995, 2, 9.925),
        (0.995, 10, 3.169),
        (0.975, 1e6, 1.960),
    ],
)
def test_quantiles_of_student(probability: float, freedom: float, expected: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(expected, abs=2e-3)


def test_seeds_and_clips_add_their_variances() -> None:
    values, resampled = np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.5] * 500)
    found = estimate(values, resampled, units=101)
    assert found.value == 2.0
    assert found.se_seeds == pytest.approx(1 / math.sqrt(3))
    assert found.se_clips == pytest.approx(0.5 * math.sqrt(101 / 100))
    error = math.hypot(found.se_seeds, found.se_clips)
    freedom = error**4 / (found.se_seeds**4 / 2 + found.se_clips**4 / 100)
    assert found.high - found.value == pytest.approx(student_quantile(0.975, freedom) * error)
    assert found.value - found.low == pytest.approx(found.high - found.value)


def test_a_single_seed_tells_of_the_clips_alone() -> None:
    found = estimate(np.array([0.3]), np.array([0.2, 0.4] * 500), units=1000)
    assert found.se_seeds == 0
    assert found.high - found.low == pytest.approx(2 * 1.962 * 0.1, rel=1e-2)


def test_nothing_varies() -> None:
    found = estimate(np.array([0.5, 0.5]), np.full(1000, 0.5), units=4)
    assert (found.low, found.high) == (0.5, 0.5)


def test_drawn_sums_keep_the_columns_together() -> None:
    columns = np.stack([np.arange(5.0), 2 * np.arange(5.0), np.ones(5)], axis=1)
    sums = drawn_sums(columns, samples=200)
    assert sums.shape == (200, 3)
    np.testing.assert_allclose(sums[:, 1], 2 * sums[:, 0])
    np.testing.assert_allclose(sums[:, 2], 5)
    np.testing.assert_array_equal(sums, drawn_sums(columns, samples=200))


def test_the_interval_covers_what_it_promises() -> None:
    """Three seeds and forty clips, both random: the true value is inside in about 95 of 100 repetitions."""
    generator, inside = np.random.default_rng(0), 0
    for _ in range(300):
        clips = generator.normal(0, 1, 40)
        seeds = generator.normal(0, 0.15, 3)
        scores = clips[None] + seeds[:, None]
        resampled = drawn_sums(np.stack([scores.mean(0), np.ones(40)], 1), samples=200)
        found = estimate(scores.mean(1), resampled[:, 0] / resampled[:, 1], units=40)
        inside += found.low <= 0 <= found.high
    assert 0.92 <= inside / 300 <= 0.99
