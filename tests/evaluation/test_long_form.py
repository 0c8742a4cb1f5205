"""Times of segments against the known ones: which belong together is told by words."""

from __future__ import annotations

from typing import Any

import pytest

from hf_asr.data.recordings import Recording, Stretch
from hf_asr.evaluation.long_form import timestamp_errors
from hf_asr.inference.formats import Segment
from hf_asr.utterance import AudioRef

KNOWN = ((1.0, 3.0, "We call it bear."), (4.0, 6.0, "Zero three five one."), (7.0, 9.0, "Bye"))


def errors(*written: tuple[float, float, str], known: Any = KNOWN, language: str = "en") -> dict[str, Any]:
    recording = Recording("talk", AudioRef(), "", 60.0, "", tuple(Stretch(*item) for item in known))
    segments = {"talk": [Segment(*item) for item in written]}
    return timestamp_errors([recording], segments, normalizer="basic", language=language)


def test_equal_segments_differ_by_their_times_alone() -> None:
    found = errors((1.1, 3.5, "we call it bear"), (4.1, 6.5, "zero three five one"), (7.1, 9.5, "bye"))
    assert found["end"]["num_known"] == found["end"]["num_compared"] == 3
    assert found["end"]["median"] == pytest.approx(0.5)
    assert found["start"]["median_absolute"] == pytest.approx(0.1)
    assert found["start"]["share_within"] == {"0.2": 1.0, "0.5": 1.0}
    assert found["end"]["share_within"]["0.2"] == 0.0


def test_segments_that_end_elsewhere_are_not_compared() -> None:
    found = errors((1.0, 6.0, "we call it bear zero three five one"), (7.0, 8.5, "bye"))
    assert (found["end"]["num_compared"], found["start"]["num_compared"]) == (2, 2)
    assert found["end"]["median"] == pytest.approx(-0.25)


def test_words_that_are_wrong_give_no_times() -> None:
    found = errors((1.0, 3.0, "we call it beer"), (20.0, 21.0, "zero three five nine"))
    assert found["end"]["num_compared"] == 0 and found["end"]["median"] is None
    assert found["start"]["num_compared"] == 2  # "we" and "zero"


def test_languages_without_spaces_are_aligned_by_characters() -> None:
    known = ((0.0, 2.0, "你好"), (3.0, 5.0, "再见"))
    found = errors((0.0, 2.5, "你好"), (3.0, 4.5, "再见"), known=known, language="zh")
    assert found["end"]["num_compared"] == 2 and found["end"]["median_absolute"] == pytest.approx(0.5)


def test_nothing_written_is_nothing_compared() -> None:
    assert errors()["start"] == {
        "num_known": 3, "num_compared": 0, "median": None, "median_absolute": None, "p90_absolute": None,
        "share_within": None,
    }  # fmt: skip
