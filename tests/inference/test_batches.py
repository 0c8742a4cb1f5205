"""Batches of clips of like length for decoding: each clip once, none larger than asked for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.errors import UserError
from hf_asr.inference.batches import cut_batches

LENGTHS = st.lists(st.floats(0.1, 30), max_size=60)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 5))
def test_whole_batches_are_dealt_so_that_each_clip_comes_once(
    seconds: list[float], batch_size: int, processes: int
) -> None:
    batches = cut_batches(seconds, seconds, batch_size, None)
    dealt = [batches[rank::processes] for rank in range(processes)]
    assert sorted(place for share in dealt for batch in share for place in batch) == list(range(len(seconds)))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(LENGTHS, st.floats(30, 120))
def test_batches_of_padded_seconds(seconds: list[float], most: float) -> None:
    batches = cut_batches(seconds, seconds, 8, most)
    assert sorted(place for batch in batches for place in batch) == list(range(len(seconds)))
    assert all(len(batch) * max(seconds[place] for place in batch) <= most for batch in batches)
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * seconds[batch[0]] > most, "another clip would have fitted"
        assert seconds[batch[-1]] >= seconds[following[0]]


def test_equal_clips_keep_their_order_and_a_common_window_leaves_the_clips_sorted() -> None:
    assert cut_batches([2.0, 3.0, 2.0, 3.0], [30.0] * 4, 2, None) == [[1, 3], [0, 2]]
    assert cut_batches([2.0, 3.0, 2.0, 3.0], [30.0] * 4, 2, 90.0) == [[1, 3, 0], [2]]


def test_a_clip_longer_than_a_batch() -> None:
    with pytest.raises(UserError, match=r"evaluation\.batch_seconds: expected at least the longest .* 12\.50 s, found"):
        cut_batches([1.0, 12.5], [1.0, 12.5], 8, 10.0)
