"""Bootstrap intervals and paired tests."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.errors import UserError
from hf_asr.evaluation import intervals
from hf_asr.evaluation.counts import ErrorCounts, count_errors
from hf_asr.evaluation.intervals import (
    Units,
    bootstrap_interval,
    known_speakers,
    paired_difference_interval,
    percentile_interval,
    randomization_test,
    resampled_rates,
    sampling_units,
    speakers_for_test,
    summarize,
)


def scored(errors: list[int], words: int = 10) -> ErrorCounts:
    """Clips of ``words`` words with the given numbers of wrong ones."""
    references = [" ".join(["a"] * words)] * len(errors)
    return count_errors(references, [" ".join(["a"] * (words - wrong) + ["x"] * wrong) for wrong in errors])


def noisy(clips: int, rate: float, seed: int) -> ErrorCounts:
    return scored(np.random.default_rng(seed).binomial(10, rate, clips).tolist())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=20), st.integers(0, 5))
def test_an_interval_is_ordered_seeded_and_inside_what_was_seen(errors: list[int], seed: int) -> None:
    counts = scored(errors)
    low, high = bootstrap_interval(counts, seed=seed)
    assert min(errors) / 10 <= low <= high <= max(errors) / 10
    assert (low, high) == bootstrap_interval(counts, seed=seed)


def test_another_seed_gives_other_samples() -> None:
    counts = noisy(50, 0.2, seed=0)
    assert bootstrap_interval(counts, seed=1) != bootstrap_interval(counts, seed=2)


def test_many_samples_agree_with_all_possible_ones() -> None:
    units = Units(np.array([0.0, 1.0, 4.0]), np.array([2.0, 5.0, 5.0]))
    every = [
        sum(units.errors[i] for i in drawn) / sum(units.lengths[i] for i in drawn)
        for drawn in product(range(3), repeat=3)
    ]
    rates = resampled_rates(units, samples=60_000, seed=0)
    # 60,000 samples: the standard error of a mean rate of this spread is 0.001.
    assert rates.mean() == pytest.approx(np.mean(every), abs=0.004)
    assert set(np.round(rates, 12)) == set(np.round(every, 12))


def test_ninety_five_per_cent_intervals_hold_the_truth_about_that_often() -> None:
    found = [bootstrap_interval(noisy(60, 0.3, seed), samples=300, seed=seed) for seed in range(120)]
    inside = sum(low <= 0.3 <= high for low, high in found)
    # 120 intervals of 95 %: 114 expected, standard deviation 2.4; the bootstrap is known to fall a little short.
    assert 104 <= inside <= 120


def test_a_wider_level_gives_a_wider_interval() -> None:
    rates = resampled_rates(sampling_units(noisy(50, 0.2, seed=0)))
    (low, high), (lower, higher) = percentile_interval(rates, 0.8), percentile_interval(rates, 0.99)
    assert lower < low < high < higher


def test_speakers_are_drawn_whole() -> None:
    # Clips of one speaker are alike: 40 clips are two pieces of evidence, not 40.
    counts = scored([0] * 20 + [10] * 20)
    speakers = ["s1"] * 20 + ["s2"] * 20
    assert bootstrap_interval(counts, speakers=speakers) == (0.0, 1.0)
    low, high = bootstrap_interval(counts)
    assert 0.2 < low < high < 0.8


@pytest.mark.parametrize("rate", ["wer", "cer"])
def test_speaker_sums_are_the_sums_of_their_clips(rate: str) -> None:
    counts = scored([1, 2, 3, 4])
    units = sampling_units(counts, ["b", "a", "b", "a"], rate)  # type: ignore[arg-type]
    assert units.errors.tolist() == [6, 4]
    assert units.lengths.tolist() == ([20, 20] if rate == "wer" else [38, 38])
    assert units.rate() == (counts.wer() if rate == "wer" else counts.cer())


@pytest.mark.parametrize(
    ("errors", "speakers", "expected"),
    [
        ([3], None, (0.3, 0.3)),
        ([3, 5], ["s", "s"], (0.4, 0.4)),
        ([0, 0, 0], None, (0.0, 0.0)),
        ([10, 10], None, (1.0, 1.0)),
    ],
)
def test_without_spread_the_interval_is_the_point(
    errors: list[int], speakers: list[str] | None, expected: tuple[float, float]
) -> None:
    assert bootstrap_interval(scored(errors), speakers=speakers) == expected


def test_samples_of_nothing_but_empty_references_are_left_out() -> None:
    counts = count_errors(["a b", ""], ["a x", "y"])
    rates = resampled_rates(sampling_units(counts), samples=400)
    # Of the four equally likely pairs one has no reference word.
    assert 60 < np.isnan(rates).sum() < 140
    assert bootstrap_interval(counts) == (0.5, 1.0)


def test_blocks_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = noisy(30, 0.3, seed=3)
    whole = bootstrap_interval(counts), randomization_test(np.arange(-10.0, 20.0))
    monkeypatch.setattr(intervals, "_BLOCK", 64)
    assert (bootstrap_interval(counts), randomization_test(np.arange(-10.0, 20.0))) == whole


def test_speakers_must_fit_the_clips() -> None:
    with pytest.raises(UserError, match="a speaker for each of 2 clips, found 1"):
        bootstrap_interval(scored([1, 2]), speakers=["s"])


def test_no_reference_words_no_interval() -> None:
    with pytest.raises(UserError, match="references with words"):
        bootstrap_interval(count_errors(["a", ""], ["a", "x"]).subset([1]))


@pytest.mark.parametrize(
    ("before", "after", "significant"),
    [
        ([5] * 30, [2] * 30, True),
        ([2] * 30, [5] * 30, True),
        ([3, 4] * 15, [4, 3] * 15, False),
        ([3] * 30, [3] * 30, False),
        ([5, 5], [2, 2], False),  # the interval leaves zero out, but two clips cannot exclude chance
    ],
)
def test_paired_differences(before: list[int], after: list[int], significant: bool) -> None:
    found = paired_difference_interval(scored(before), scored(after))
    assert found.difference == pytest.approx((sum(after) - sum(before)) / (10 * len(before)))
    assert found.low <= found.difference <= found.high
    assert found.significant is significant
    assert found.by == "utterance"


def test_pairing_sees_what_separate_intervals_cannot() -> None:
    before = noisy(60, 0.5, seed=0)
    errors = before.words.errors.tolist()
    after = scored([max(0, wrong - (row % 3 == 0)) for row, wrong in enumerate(errors)])
    assert bootstrap_interval(after)[1] > bootstrap_interval(before)[0]
    assert paired_difference_interval(before, after).significant


def test_a_gain_of_one_speaker_is_not_a_gain_over_speakers() -> None:
    before, after = scored([5] * 80), scored([5] * 70 + [0] * 10)
    speakers = [f"s{clip // 10}" for clip in range(80)]
    assert paired_difference_interval(before, after).significant
    by_speaker = paired_difference_interval(before, after, speakers=speakers)
    assert (by_speaker.by, by_speaker.significant) == ("speaker", False)


def test_nothing_changed() -> None:
    counts = scored([1, 2, 3])
    found = paired_difference_interval(counts, counts)
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "other",
    [
        scored([1, 2]),
        count_errors(["b"] * 3, ["b"] * 3),
        count_errors(["a"] * 3, ["a"] * 3, ids=["x", "y", "z"]),
    ],
)
def test_other_clips_cannot_be_paired(other: ErrorCounts) -> None:
    with pytest.raises(UserError, match="same clips with the same references"):
        paired_difference_interval(count_errors(["a"] * 3, ["a"] * 3), other)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8))
def test_the_exact_test_goes_through_every_exchange(differences: list[int]) -> None:
    sums = [
        sum(sign * d for sign, d in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    exact = Fraction(sum(abs(value) >= abs(sum(differences)) for value in sums), len(sums))
    assert randomization_test(np.array(differences, np.float64)) == float(exact)


def test_the_sampled_test_comes_near_the_exact_one() -> None:
    differences = np.array([3.0, 2, -1, 4, 1, -2, 5, 1, 2, -1, 3, 1, 2, -2, 1, 3, -2])
    exact = randomization_test(differences, samples=2**17)
    assert 0.01 < exact < 0.1
    # 2**17 - 1 samples of such a probability: standard error 0.0005.
    assert randomization_test(differences, samples=2**17 - 1) == pytest.approx(exact, abs=0.002)


def test_a_sampled_p_value_is_never_zero() -> None:
    assert randomization_test(np.ones(200), samples=999) == 1 / 1000


@pytest.mark.parametrize(
    ("speakers", "known"),
    [(None, 0), ([], 0), (["a", ""], 0), (["a", "a"], 1), (["a", "b", "a"], 2)],
)
def test_speakers_count_only_when_all_are_known(speakers: list[str] | None, known: int) -> None:
    assert known_speakers(speakers) == known


def test_five_speakers_are_too_few_for_a_test() -> None:
    assert speakers_for_test(list("abcde")) is None
    assert speakers_for_test(list("abcdef")) == list("abcdef")


@pytest.mark.parametrize(
    ("speakers", "by"),
    [(None, "utterance"), (["s"] * 4, "utterance"), (["s", "", "t", "t"], "utterance"), (list("stst"), "speaker")],
)
def test_the_summary_says_what_its_interval_was_drawn_by(speakers: list[str] | None, by: str) -> None:
    counts = scored([0, 1, 2, 3])
    summary = summarize(counts, speakers)
    assert summary["wer_interval_by"] == by
    assert ("wer_interval_by_utterance" in summary) is (by == "speaker")
    drawn = speakers if by == "speaker" else None
    assert summary["wer_interval"] == list(bootstrap_interval(counts, speakers=drawn))
    assert summary["cer_interval"] == list(bootstrap_interval(counts, speakers=drawn, rate="cer"))
    assert (summary["wer"], summary["num_words"], summary["normalizer"]) == (0.15, 40, "basic")
