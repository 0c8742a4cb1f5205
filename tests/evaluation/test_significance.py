"""Groups against the rest, Holm's correction, MAPSSWE."""

from __future__ import annotations

import numpy as np
import pytest

from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.significance import against_the_rest, holm, matched_pairs


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([0.02], [0.02]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.04, 0.04], [0.08, 0.08]),
    ],
)
def test_holm(given: list[float], expected: list[float]) -> None:
    assert holm(given) == pytest.approx(expected)


def group(rate: float, rest: float, clips: int, seed: int, speakers: int = 0) -> float:
    """Return the p-value of a group of clips of ten words against as many others."""
    drawn = np.random.default_rng(seed)
    inside = np.arange(2 * clips) < clips
    errors = drawn.binomial(10, np.where(inside, rate, rest)).astype(np.float64)
    units = drawn.integers(0, speakers, 2 * clips) if speakers else np.arange(2 * clips)
    found = against_the_rest(errors, np.full(2 * clips, 10.0), inside, units)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.difference <= found.high
    return found.p_value


def test_a_group_that_is_worse_is_found_and_one_that_is_better_is_not() -> None:
    assert group(0.3, 0.1, 60, seed=0) < 1e-4
    assert group(0.1, 0.3, 60, seed=0) > 0.99


@pytest.mark.parametrize("speakers", [0, 20])
def test_equal_groups_are_called_worse_as_often_as_the_level_says(speakers: int) -> None:
    false = sum(group(0.2, 0.2, 60, seed, speakers) < 0.05 for seed in range(400))
    # 400 trials of 5 %: 20 expected, standard deviation 4.4; of 3,000 it was 4.9 % by clip, 5.5 % by speaker.
    assert 5 <= false <= 37


def test_clips_of_one_speaker_are_one_piece_of_evidence() -> None:
    inside = np.arange(80) < 40
    errors = np.where(inside, 4.0, 2.0)
    errors[:20], errors[40:60] = 8.0, 0.0
    lengths, speakers = np.full(80, 10.0), np.arange(80) // 10
    by_clip = against_the_rest(errors, lengths, inside, np.arange(80))
    by_speaker = against_the_rest(errors, lengths, inside, speakers)
    assert by_clip is not None
    assert by_speaker is not None
    assert by_clip.difference == by_speaker.difference
    assert by_clip.p_value < 0.001 < by_speaker.p_value


def test_a_single_unit_shows_no_spread() -> None:
    found = against_the_rest(np.array([1.0, 0, 2]), np.full(3, 10.0), np.array([True, False, False]), np.arange(3))
    assert found is not None
    assert (found.difference, found.low, found.p_value) == (0.0, None, 1.0)


@pytest.mark.parametrize("inside", [[True, True], [False, False]])
def test_without_words_on_one_side_there_is_no_test(inside: list[bool]) -> None:
    assert against_the_rest(np.ones(2), np.ones(2), np.array(inside), np.arange(2)) is None


@pytest.mark.parametrize(
    ("reference", "first", "second", "segments", "mean"),
    [
        ("a b c d e f", "a b c d e f", "a b c d e f", 0, 0.0),
        # Two errors with two right words between them are two segments, with one between them one.
        ("a b c d e f", "x b c y e f", "a b c d e f", 2, -1.0),
        ("a b c d e f", "x b y d e f", "a b c d e f", 1, -2.0),
        # Each errs where the other is right.
        ("a b c d e f", "x b c d e f", "a b c d e x", 2, 0.0),
        # What is inserted counts at the word behind it; a gap behind the last word keeps utterances apart.
        ("a b c", "a b c x", "a b c", 1, -1.0),
    ],
)
def test_segments_of_mapsswe(reference: str, first: str, second: str, segments: int, mean: float) -> None:
    found = matched_pairs(count_errors([reference], [first]), count_errors([reference], [second]))
    assert (found.segments, found.mean) == (segments, mean)


def test_utterances_are_never_joined_to_one_segment() -> None:
    references = ["a b", "c d"]
    found = matched_pairs(count_errors(references, ["a x", "x d"]), count_errors(references, references))
    assert found.segments == 2


def test_mapsswe_sees_a_gain_and_not_mere_chance() -> None:
    references = ["a b c d e"] * 100
    worse, better = ["x b c d e"] * 60 + ["a b c d e"] * 40, ["x b c d e"] * 20 + ["a b c d e"] * 80
    found = matched_pairs(count_errors(references, worse), count_errors(references, better))
    # 60 segments, 40 of them with one error fewer: mean -2/3, standard error 0.0614.
    assert (found.segments, found.mean) == (60, pytest.approx(-2 / 3))
    assert found.z == pytest.approx(-10.86, abs=0.01)
    mixed = ["x b c d e"] * 50 + ["a b c d e"] * 50
    assert matched_pairs(count_errors(references, mixed), count_errors(references, mixed[::-1])).p_value == 1.0
