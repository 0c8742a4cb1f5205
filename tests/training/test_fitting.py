"""The largest batch that fits: the search, the worst clips, and a forecast that a real batch keeps to."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny_training import FRAMES, MELS, PAD, START, build_model
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from hf_asr.features.collate import Seq2SeqCollator, WindowPadder
from hf_asr.models.losses import TOKENS
from hf_asr.training.fitting import ABOVE_KEPT, ABOVE_KEPT_WITH_LOGITS, Needs, WorstClip, largest_that_fits, worst_clips
from hf_asr.training.forecast import fixed_bytes, measure_step

CPU = SimpleNamespace(device=torch.device("cpu"), mixed_precision="no")


@given(st.integers(0, 10_000), st.integers(1, 100), st.integers(1, 400), st.integers(1, 50))
def test_the_search_finds_the_last_number_that_fits(limit: int, least: int, more: int, step: int) -> None:
    def needs(seconds: int) -> int:
        return step * (seconds // 3)

    found = largest_that_fits(needs, limit, least, least + more)
    fitting = [seconds for seconds in range(least, least + more + 1) if needs(seconds) <= limit]
    assert found == (fitting[-1] if fitting else None)


def test_fewer_clips_than_a_batch_takes_are_the_end_of_the_search() -> None:
    assert largest_that_fits(lambda seconds: 0, 1, least=30, most=20) == 30


def test_the_worst_clips_are_the_longest_and_those_that_say_most() -> None:
    padded, frames = [30.0, 10.0, 2.0, 1.0], [3000, 1000, 200, 100]
    labels = [[1] * 5, [1] * 40, [1] * 12, [1]]
    assert [(clip.padded, len(clip.labels)) for clip in worst_clips(padded, frames, labels)] == [
        (30.0, 5),
        (10.0, 40),
        (2.0, 12),
    ]


@pytest.mark.parametrize("head", [None, "proj_out"])
def test_the_forecast_of_many_clips_is_what_they_keep(head: str | None) -> None:
    model, collate = build_model(), Seq2SeqCollator(WindowPadder(FRAMES, MELS), START, PAD)
    clip = WorstClip(0.4, FRAMES, (1, 2, 3, 4))
    needs = Needs(model, TOKENS, collate, [clip], MELS, CPU, head)
    kept = measure_step(model, collate(clip.rows(10, MELS)), CPU, TOKENS, chunked_head=head)[1]
    above = ABOVE_KEPT if head else ABOVE_KEPT_WITH_LOGITS
    assert needs(4) == pytest.approx(fixed_bytes(model) + above * kept, rel=0.02)
    assert needs(8) > needs(4) and list(needs.kept) == [clip], "two runs serve every size"


@pytest.mark.parametrize("head", [None, "proj_out"])
@pytest.mark.parametrize("labels", [4, 30])
def test_a_step_s_peak_stays_within_the_forecast(head: str | None, labels: int) -> None:
    model, collate = build_model(), Seq2SeqCollator(WindowPadder(FRAMES, MELS), START, PAD)
    clip = WorstClip(0.4, FRAMES, tuple([1] * labels))
    batch = collate(clip.rows(16, MELS))
    measure_step(model, batch, CPU, TOKENS, chunked_head=head)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        measure_step(model, batch, CPU, TOKENS, chunked_head=head)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    gradients = sum(4 * parameter.numel() for parameter in model.parameters())
    needs = Needs(model, TOKENS, collate, [clip], MELS, CPU, head)
    assert max(live) - gradients < needs(7) - fixed_bytes(model)
