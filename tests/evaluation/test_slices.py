"""Groups of clips: their columns, sums, intervals and tests."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hf_asr.errors import UserError
from hf_asr.evaluation.columns import UNKNOWN, Clips, group, groupings, known_columns
from hf_asr.evaluation.counts import ErrorCounts, count_errors
from hf_asr.evaluation.intervals import bootstrap_interval
from hf_asr.evaluation.slices import FEWEST_UTTERANCES, ScoredSet, check_speakers, slice_all, worst_speakers


def scored(errors: list[int], words: int = 10) -> ErrorCounts:
    references = [" ".join(["a"] * words)] * len(errors)
    return count_errors(references, [" ".join(["x"] * wrong + ["a"] * (words - wrong)) for wrong in errors])


def clips(number: int, **columns: list[Any]) -> Clips:
    durations = columns.pop("durations", [1.0] * number)
    return Clips(durations, columns.pop("speakers", [""] * number), columns)


@pytest.mark.parametrize(
    ("name", "cells", "bounds", "labels", "codes"),
    [
        ("duration", [4.9, 5, 15, 20, None], None, ("below 5 s", "5 to 15 s", "from 15 s"), [0, 1, 2, 2, UNKNOWN]),
        ("duration", [math.nan, math.inf, 1.0], [3], ("below 3 s", "from 3 s"), [UNKNOWN, UNKNOWN, 0]),
        ("snr", [9.0, None, 25.0], None, ("below 10 dB", "10 to 20 dB", "from 20 dB"), [0, UNKNOWN, 2]),
        ("gender", ["f", "m", "f", ""], None, ("f", "m"), [0, 1, 0, UNKNOWN]),
        ("year", ["1", "2", "2"], None, ("2", "1"), [1, 0, 0]),
        ("year", ["1", "2", "", "old"], [2], ("below 2", "from 2"), [0, 1, UNKNOWN, UNKNOWN]),
        ("score", [str(n) for n in range(16)], None, None, [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4),
        # Speakers of many numbers stay speakers.
        ("speaker", [str(n) for n in range(16)], None, tuple(str(n) for n in sorted(map(str, range(16)))), None),
    ],
)
def test_columns_are_cut(name: str, cells: list[Any], bounds: Any, labels: Any, codes: list[int] | None) -> None:
    found = group(name, cells, bounds)
    assert labels is None or found.labels == labels
    assert codes is None or found.codes.tolist() == codes
    assert len(found.limits) == len(found.labels)


def test_the_usual_columns_are_those_with_something_in_them() -> None:
    counts = scored([1, 2])
    known = clips(2, gender=["f", ""], accent=["", ""], mood=["a", "b"], durations=[None, None])
    assert [one.name for one in groupings([], counts, known)] == ["reference_length", "gender"]
    wanted = ["mood", {"reference_length": [3]}]
    assert [(one.name, one.kind) for one in groupings(wanted, counts, known)] == [
        ("mood", "value"),
        ("reference_length", "range"),
    ]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["gendre"], r"expected a column gendre of the corpus, found gender.*Did you mean gender\?"),
        (["accent"], "expected values in the column accent, found it empty"),
        ([{"gender": [1, 2]}], "expected numbers in the column gender"),
    ],
)
def test_a_column_that_is_missing_is_told(wanted: list[Any], message: str) -> None:
    known = clips(2, gender=["f", "m"], accent=["", ""])
    with pytest.raises(UserError, match=message):
        list(groupings(wanted, scored([1, 2]), known))


def test_speaking_rate_is_characters_a_second() -> None:
    found = known_columns(scored([0, 1]), clips(2, durations=[2.0, 0.0]))
    assert list(found["speaking_rate"]) == [19 / 2, None]


def test_every_group_adds_up() -> None:
    counts = scored([0, 1, 2, 3, 4, 5])
    known = clips(6, gender=["f", "m", "f", "m", "", "f"], speakers=["s1", "s2", "s1", "s2", "s3", "s3"])
    found = slice_all(ScoredSet(counts, known, "wer", 42), ["gender"])
    (part,) = found["slices"]
    assert (part["unknown"], part["left_out"]) == (1, 0)
    first, second = part["groups"]
    assert (first["label"], first["utterances"], first["words"], first["speakers"]) == ("f", 3, 30, 2)
    assert (first["substitutions"], first["hits"], first["wer"], first["ser"]) == (7, 23, 7 / 30, 2 / 3)
    assert first["interval"] == list(bootstrap_interval(counts.subset([0, 2, 5])))
    assert first["difference"] == pytest.approx(7 / 30 - 8 / 30)
    assert second["small"]
    assert (second["p_value"], found["tested_slices"], found["worse_slices"]) == (None, 0, [])


def test_the_worse_half_is_found_and_chance_is_not() -> None:
    drawn = np.random.default_rng(0)
    half = ["bad" if row % 2 else "good" for row in range(400)]
    errors = drawn.binomial(10, [0.3 if name == "bad" else 0.1 for name in half]).tolist()
    other = [str(number) for number in drawn.integers(0, 4, 400)]
    found = slice_all(ScoredSet(scored(errors), clips(400, room=half, day=other), "wer", 42), ["room", "day"])
    assert [(one["name"], one["label"]) for one in found["worse_slices"]] == [("room", "bad")]
    assert found["tested_slices"] == 6
    assert found["worse_slices"][0]["difference"] == pytest.approx(0.2, abs=0.03)


def test_intervals_are_drawn_by_speaker_where_a_group_has_enough() -> None:
    errors = np.repeat(np.random.default_rng(1).binomial(10, 0.3, 20), 5).tolist()
    speakers = [f"s{row // 5}" for row in range(100)]
    room = ["a" if row < 75 else "b" for row in range(100)]
    (part,) = slice_all(ScoredSet(scored(errors), clips(100, room=room, speakers=speakers), "wer", 1), ["room"])[
        "slices"
    ]
    assert [one["interval_by"] for one in part["groups"]] == ["speaker", "utterance"]
    assert part["groups"][0]["interval"] == list(
        bootstrap_interval(scored(errors[:75]), speakers=speakers[:75], seed=1)
    )


def test_a_group_without_reference_words_has_no_rate() -> None:
    counts = count_errors(["a b", ""], ["a b", "x"])
    (part,) = slice_all(ScoredSet(counts, clips(2, kind=["speech", "noise"]), "wer", 42), ["kind"])["slices"]
    noise = next(one for one in part["groups"] if one["label"] == "noise")
    assert (noise["wer"], noise["interval"], noise["difference"], noise["insertions"]) == (None, None, None, 1)


def test_characters_are_compared_where_words_have_no_spaces() -> None:
    counts = count_errors(["我们今天"] * 40, ["我们明天"] * 40)
    known = clips(40, half=["a"] * 20 + ["b"] * 20)
    (part,) = slice_all(ScoredSet(counts, known, "cer", 42), ["half"])["slices"]
    assert part["groups"][0]["interval"] == [0.25, 0.25]


def test_the_worst_speakers_go_by_what_is_sure() -> None:
    counts = scored([9] + [8] * 20 + [1] * 20 + [3])
    names = ["odd"] + ["hard"] * 20 + ["easy"] * 20 + [""]
    found = worst_speakers(ScoredSet(counts, clips(42, speakers=names), "wer", 42))
    assert found is not None
    assert (found["number"], found["unknown"]) == (3, 1)
    # Nine words of ten wrong, but Wilson has a lower end of 0.60; 160 of 200: 0.74.
    assert [one["speaker"] for one in found["worst"]] == ["hard", "odd", "easy"]
    assert [one["small"] for one in found["worst"]] == [True, True, True]
    assert worst_speakers(ScoredSet(scored([1]), clips(1), "wer", 42)) is None


@pytest.mark.parametrize(
    ("speakers", "found"),
    [
        (["s", "s"], "found 1 speaker;"),
        (["", ""], "found 0 speakers and 2 clips without one"),
        (["s", "t", ""], "found 2 s"),
    ],
)
def test_an_interval_by_speaker_is_refused(speakers: list[str], found: str) -> None:
    with pytest.raises(UserError, match=found):
        check_speakers(speakers)


def test_small_groups_are_marked_by_both_limits() -> None:
    counts = scored([1] * FEWEST_UTTERANCES + [1] * (FEWEST_UTTERANCES - 1) + [1] * FEWEST_UTTERANCES)
    known = clips(len(counts), part=["a"] * 30 + ["b"] * 29 + ["c"] * 30)
    (part,) = slice_all(ScoredSet(counts, known, "wer", 42), ["part"])["slices"]
    assert {one["label"]: one["small"] for one in part["groups"]} == {"a": False, "b": True, "c": False}
