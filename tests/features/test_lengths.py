"""What clips take once they are padded."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hf_asr.features.collate import LongestPadder, MixedPadder, PlannedPadder, WindowPadder
from hf_asr.features.lengths import padded_seconds
from hf_asr.features.positions import Window

WHOLE, CLIP = WindowPadder(3000, 80), PlannedPadder(Window(1500, stride=0), 80)


@pytest.mark.parametrize(
    ("padder", "expected"),
    [
        (LongestPadder(80), [1.0, 5.0]),
        (WHOLE, [30.0, 30.0]),
        (CLIP, [1.0, 5.0]),
        (MixedPadder(WHOLE, CLIP, 0.2, 0), [30.0, 30.0]),
        # 250 positions and 25 of silence kept one by one, every tenth of the others, and the window's last.
        (
            PlannedPadder(Window(1500, keep=25, stride=10), 80),
            [2 * 0.01 * (50 + 25 + 144), 2 * 0.01 * (250 + 25 + 124)],
        ),
    ],
)
def test_what_a_clip_takes(padder: object, expected: list[float]) -> None:
    assert padded_seconds(SimpleNamespace(padder=padder), [1.0, 5.0]) == pytest.approx(expected)
