"""Charts: every value lies on its scale, nothing that is not finite is drawn."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.evaluation.page_charts import MOST_POINTS, Bar, Row, bar_chart, histogram, interval_plot, line_chart
from hf_asr.evaluation.page_curves import _small
from hf_asr.evaluation.page_scale import counted, make_scale, per_cent, plain, short_name

numbers = st.floats(-1e12, 1e12, allow_subnormal=False)


@given(st.lists(numbers, min_size=1, max_size=20), st.booleans())
def test_a_scale_holds_every_value_and_few_round_ticks(values: list[float], zero: bool) -> None:
    scale = make_scale(values, zero=zero)
    assert scale.low < scale.high
    assert all(-1e-6 <= scale(value) <= 1 + 1e-6 for value in values)
    assert 2 <= len(scale.ticks) <= 12
    assert not zero or scale.low <= 0 <= scale.high


@given(st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20))
def test_a_logarithmic_scale_holds_every_value(values: list[float]) -> None:
    scale = make_scale(values, log=True)
    assert all(-1e-6 <= scale(value) <= 1 + 1e-6 for value in values)
    assert len(scale.ticks) <= 14


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, math.nan]])
def test_a_scale_of_nothing_is_0_to_1(values: list[float]) -> None:
    assert (make_scale(values).low, make_scale(values).high) == (0, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3.0, "3"), (1234.5, "1,234"), (0.12345, "0.123"), (512.25, "512.2"), (1e-5, "1e-05"), (500.0, "500")],
)
def test_numbers_are_written_with_the_digits_worth_reading(value: float, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_written_too(value: float) -> None:
    assert plain(value) in ("nan", "inf")


def test_words_of_numbers() -> None:
    assert per_cent(0.1234) == "12.3 %"
    assert (counted(1, "clip"), counted(2, "clip"), counted(1200, "clip")) == ("1 clip", "2 clips", "1,200 clips")
    assert short_name("anna") == "anna"
    assert short_name("0123456789" * 12) == "0123456789…6789"


def test_bars_and_whiskers_stand_where_the_scale_puts_them() -> None:
    text = str(bar_chart([Row("a", [Bar(0.5, 0.25, 1.0)])]))
    assert 'x="0.00%" y="7" width="50.00%"' in text
    assert 'x1="25.00%" x2="100.00%"' in text
    dots = str(interval_plot([Row("a", [Bar(0.5, 0.0, 1.0)])], line=0.25))
    assert 'cx="50.00%"' in dots
    assert '<line class="mark" x1="25.00%"' in dots


def test_a_value_without_an_interval_has_no_whisker() -> None:
    assert 'class="l0"' not in interval_plot([Row("a", [Bar(0.5)])])


def test_curves_leave_out_what_is_not_finite_and_thin_out_long_ones() -> None:
    short = str(line_chart({"loss": [(0, 1.0), (1, math.nan), (2, 3.0)]}))
    assert "nan" not in short and short.count("<circle") == 2
    long = str(line_chart({"loss": [(float(step), 1.0 + step % 7) for step in range(10_000)]}))
    [points] = re.findall(r'points="([^"]*)"', long)
    assert len(points.split()) == MOST_POINTS
    assert points.split()[-1].startswith("1000.0,")


def test_a_logarithmic_curve_leaves_out_zeros() -> None:
    text = str(line_chart({"rate": [(0, 1.0), (1, 0.0), (2, 1.0), (4, 10.0)]}, log_x=True, log_y=True))
    assert text.count("<circle") == 2


def test_a_histogram_has_a_bar_for_every_interval_of_every_series() -> None:
    text = str(histogram([0, 1, 2, 3], {"a": [1, 0, 2], "b": [3, 1, 0]}))
    assert text.count("<rect") == 6 + 2, "two of them are the legend's"
    assert "b, 0 to 1: 3" in text


def test_colours_can_be_chosen() -> None:
    text = str(interval_plot([Row("a", [Bar(0.1, series=0), Bar(0.2, series=1)])], series=["x", "y"], colours=[6, 0]))
    assert text.count('class="s6"') == 2 and text.count('class="s0"') == 2


@pytest.mark.parametrize("high", [0.5, 0.8, 1.0, 1.9, 7.0])
def test_the_numbers_above_a_narrow_chart_do_not_touch(high: float) -> None:
    chart = interval_plot([Row("a", [Bar(high / 2, 0.0, high)])], series=["only"])
    assert 2 <= chart.count('class="tick"') <= 4


def test_small_numbers_on_an_axis_are_told_apart() -> None:
    written = [_small(place * 5e-8) for place in range(5)]
    assert written == ["0", "5e-8", "1e-7", "1.5e-7", "2e-7"]
