"""Which clips share a window: each exactly once, none over the limits, the share as asked, the same every time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_asr.data.packing import (
    CLIPS_AT_ONCE,
    ClipSizes,
    Pieces,
    Room,
    WindowPlan,
    join_neighbours,
    share_packed,
    windows_of_part,
)

ROOM = Room(frames=300, tokens=40)


def sizes_of(frames: list[int], tokens: list[int] | None = None, speakers: list[str] | None = None) -> ClipSizes:
    return ClipSizes(frames, tokens or [3] * len(frames), speakers or [""] * len(frames))


def plan(sizes: ClipSizes, **changes: Any) -> WindowPlan:
    values: dict[str, Any] = {"share": 0.8, "any_speaker": False, "seed": 7, "shuffle": True} | changes
    return WindowPlan(sizes, [f"clip{place}" for place in range(len(sizes))], ROOM, **values)


clips = st.lists(
    st.tuples(st.integers(1, 330), st.integers(0, 44), st.sampled_from(["", "ann", "bob", "eve"])),
    min_size=1,
    max_size=150,
)


@settings(max_examples=60)
@given(clips, st.floats(0, 1), st.booleans(), st.booleans(), st.integers(0, 9), st.integers(0, 2**31))
def test_every_clip_once_and_no_window_too_full(
    found: list[tuple[int, int, str]], share: float, any_speaker: bool, shuffle: bool, epoch: int, seed: int
) -> None:
    sizes = ClipSizes(*(list(column) for column in zip(*found, strict=True)))
    planned = plan(sizes, share=share, any_speaker=any_speaker, shuffle=shuffle, seed=seed)
    windows = planned.windows(epoch)
    assert len(windows) == planned.num_windows
    assert Counter(clip for window in windows for clip in window) == Counter(range(len(found)))
    assert windows == sorted(windows, key=min)
    for window in windows:
        if len(window) > 1:
            assert sum(sizes.frames[clip] for clip in window) <= ROOM.frames
            assert sum(sizes.tokens[clip] for clip in window) <= ROOM.tokens
            assert any_speaker or len({sizes.speakers[clip] for clip in window}) == 1
    again = plan(sizes, share=share, any_speaker=any_speaker, shuffle=shuffle, seed=seed)
    assert again.windows(epoch) == windows


@settings(max_examples=25)
@given(st.floats(0, 1), st.integers(0, 2**31), st.integers(0, 5))
def test_the_share_is_of_windows(share: float, seed: int, epoch: int) -> None:
    """400 clips of which five to ten fill a window: any share can be had, up to rounding."""
    windows = plan(sizes_of([30 + clip % 29 for clip in range(400)]), share=share, seed=seed).windows(epoch)
    assert share_packed(windows) == pytest.approx(share, abs=0.04)


def test_clips_that_cannot_be_joined_stay_single() -> None:
    windows = plan(sizes_of([280] * 20)).windows(0)
    assert windows == [(clip,) for clip in range(20)]


@pytest.mark.parametrize(
    ("frames", "speakers", "any_speaker", "expected"),
    [
        ([100, 100, 100, 100], "aaaa", False, [(0, 1, 2), (3,)]),
        ([100, 100, 100, 100], "abab", False, [(0, 2), (1, 3)]),
        ([100, 100, 100, 100], "abcb", False, [(0,), (1, 3), (2,)]),
        ([100, 100, 100, 100], "abcb", True, [(0, 1, 3), (2,)]),
        ([301, 100, 100], "aaa", False, [(0,), (1, 2)]),
        ([150, 200, 150], "aaa", False, [(0,), (1,), (2,)]),
    ],
)
def test_neighbours_are_joined(frames: list[int], speakers: str, any_speaker: bool, expected: list[Pieces]) -> None:
    sizes = sizes_of(frames, speakers=list(speakers))
    assert join_neighbours(sizes, ROOM, range(len(frames)), any_speaker=any_speaker) == expected


def test_the_label_s_length_bounds_a_window() -> None:
    sizes = sizes_of([10] * 6, tokens=[15] * 6)
    assert join_neighbours(sizes, ROOM, range(6)) == [(0, 1), (2, 3), (4, 5)]


def test_epochs_and_seeds_differ() -> None:
    sizes = sizes_of([40 + clip % 17 for clip in range(100)])
    assert len({tuple(plan(sizes, seed=seed).windows(epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6
    assert plan(sizes, shuffle=False).windows(0) == plan(sizes, shuffle=False).windows(3)


def test_a_table_in_order_is_packed_as_a_stream_is() -> None:
    number = CLIPS_AT_ONCE + 11
    sizes = sizes_of([50 + clip % 40 for clip in range(number)], speakers=["ann", "bob", "bob"] * (number // 3))
    shared: dict[str, Any] = {"share": 0.8, "any_speaker": True, "seed": 7}
    expected = []
    for first in (0, CLIPS_AT_ONCE):
        part = sizes.part(range(first, min(first + CLIPS_AT_ONCE, number)))
        found = windows_of_part(part, f"clip{first}", ROOM, **shared)
        expected += [tuple(first + clip for clip in window) for window in found]
    assert plan(sizes, any_speaker=True, shuffle=False).windows(0) == expected
    assert 0.7 < share_packed(expected) < 0.9


def test_windows_are_well_filled() -> None:
    """Six clips of 48 frames fill 96 % of a window of 300."""
    planned = plan(sizes_of([48] * 600), share=1.0)
    assert planned.num_windows == 100 and planned.filled() == pytest.approx(0.96)
