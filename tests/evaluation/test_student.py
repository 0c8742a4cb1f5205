"""Student's t against printed tables, and its two functions against each other."""

from __future__ import annotations

import pytest

from hf_asr.evaluation.student import student_quantile, student_tail


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.30265),
        (0.975, 10, 2.22814),
        (0.95, 5, 2.01505),
        (0.995, 30, 2.74999),
        (0.975, 120, 1.97993),
        (0.975, 1e7, 1.95996),
    ],
)
def test_quantiles_are_those_of_the_tables(probability: float, freedom: float, expected: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=5e-6)


@pytest.mark.parametrize("freedom", [0.5, 1.0, 3.7, 25.0, 400.0, 20_000.0])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.9999])
def test_the_tail_undoes_the_quantile(probability: float, freedom: float) -> None:
    quantile = student_quantile(probability, freedom)
    assert student_tail(quantile, freedom) == pytest.approx(1 - probability, rel=1e-6)
    assert student_tail(-quantile, freedom) == pytest.approx(probability)
    assert student_tail(0.0, freedom) == pytest.approx(0.5)
