"""Comparisons that told something else than the runs did."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.scored_run import write_scored

from hf_asr.errors import UserError
from hf_asr.evaluation.comparison import pair_up, read_system
from hf_asr.evaluation.counts import count_errors
from hf_asr.evaluation.significance import matched_pairs

REFERENCES = ["hello world", "a dog barked", "nobody came"]
WRITTEN = ["Hello, World.", "A dog barked.", "Nobody came."]


def test_other_normalizers_are_refused_where_the_references_need_none(tmp_path: Path) -> None:
    raw = read_system(write_scored(tmp_path / "raw", REFERENCES, WRITTEN, normalizer="none"))
    basic = read_system(write_scored(tmp_path / "basic", REFERENCES, WRITTEN, normalizer="basic"))
    with pytest.raises(UserError, match=r"one normalizer on both sides, found none in .*raw and basic in .*basic; say"):
        pair_up(raw, basic)
    pair = pair_up(raw, basic, normalizer="basic")
    assert (pair.before.wer(), pair.after.wer()) == (0, 0)


@pytest.mark.parametrize(("segments", "p_value"), [(1, 1.0), (2, 0.5), (12, 2**-11), (3000, 0.0)])
def test_segments_that_all_differ_alike_are_no_tie(segments: int, p_value: float) -> None:
    references, worse = ["a dog barked"] * segments, ["a dog parked"] * segments
    sides = [count_errors(references, texts, normalizer="none") for texts in (references, worse)]
    found, back = matched_pairs(*sides), matched_pairs(*sides[::-1])
    assert (found.segments, found.mean) == (segments, 1.0)
    assert found.p_value == back.p_value == pytest.approx(p_value, abs=1e-300)
    assert found.z == -back.z and (found.z > 0) == (segments > 1)
