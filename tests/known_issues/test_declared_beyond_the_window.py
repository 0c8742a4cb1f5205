"""A clip that its manifest calls longer than the model's window ended batching by padded seconds with an assertion."""

from __future__ import annotations

from types import SimpleNamespace

from hf_asr.features.collate import PlannedPadder
from hf_asr.features.lengths import padded_seconds
from hf_asr.features.positions import Window


def test_it_counts_as_a_whole_window() -> None:
    collator = SimpleNamespace(padder=PlannedPadder(Window(1500, keep=25, stride=10), 80))
    assert padded_seconds(collator, [30.0, 35.0]) == [30.0, 30.0]
