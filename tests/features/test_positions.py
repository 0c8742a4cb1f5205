"""The plan: which positions a clip keeps, what each stands for, and what a batch of plans looks like."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torch.testing import assert_close

from hf_asr.features.collate import MixedPadder, PlannedPadder, WindowPadder
from hf_asr.features.extract import padding_value
from hf_asr.features.positions import MARGIN, ClipPlan, Window, as_tensors, pack, stem_source, unpack


@pytest.mark.parametrize(
    ("window", "frames", "positions", "weights"),
    [
        pytest.param(Window(10), 6, range(10), [1] * 10, id="stride 1 keeps all"),
        pytest.param(Window(10, 0, 3), 5, [0, 1, 2, 4, 7, 9], [1, 1, 1, 3, 3, 1], id="odd frames, the window's end"),
        pytest.param(
            Window(10, 2, 3), 5, [0, 1, 2, 3, 4, 6, 8, 9], [1, 1, 1, 1, 1, 3, 1, 1], id="kept silence, a remainder of 1"
        ),
        pytest.param(Window(10, 0, 40), 4, [0, 1, 5, 9], [1, 1, 7, 1], id="one key for the tail, and the end"),
        pytest.param(Window(10, 2, 3), 20, range(10), [1] * 10, id="a full window"),
        pytest.param(Window(10, 5, 3), 16, range(10), [1] * 10, id="kept silence up to the end"),
        pytest.param(Window(10, 0, 4), 0, [0, 2, 6, 9], [1, 4, 4, 1], id="no frames at all"),
        pytest.param(
            Window(20, 0, 3, run=2), 4, [0, 1, 4, 5, 10, 11, 15, 16, 18, 19], [1, 1, 3, 3, 3, 3, 2, 2, 1, 1], id="runs"
        ),
        pytest.param(
            Window(20, 0, 4, run=3), 4, [0, 1, 6, 7, 8, *range(14, 20)], [1, 1, 4, 4, 4, *[1] * 6], id="a short run"
        ),
        pytest.param(Window(10, 0, 2, run=30), 4, range(10), [1] * 10, id="a run longer than the window"),
        pytest.param(Window(10, stride=0, bucket=4), 5, range(4), [1] * 4, id="clip"),
        pytest.param(Window(10, stride=0, bucket=4), 8, range(4), [1] * 4, id="clip, exactly a bucket"),
        pytest.param(Window(10, stride=0, bucket=4), 19, range(10), [1] * 10, id="clip, past the last bucket"),
        pytest.param(Window(10, stride=0, bucket=4), 0, range(4), [1] * 4, id="clip, no frames at all"),
    ],
)
def test_plan(window: Window, frames: int, positions: list[int], weights: list[int]) -> None:
    plan = window.of_clip(frames)
    assert plan.positions.tolist() == list(positions)
    assert plan.weights.tolist() == list(weights)


@given(
    st.integers(2, 1500),
    st.integers(0, 100),
    st.integers(1, 60),
    st.integers(1, 50),
    st.integers(1, 40),
    st.floats(0, 1),
)
def test_keys_stand_for_the_whole_window(
    size: int, keep: int, stride: int, bucket: int, run: int, share: float
) -> None:
    window = Window(size, keep, stride, bucket, run)
    frames = round(share * window.frames)
    plan = window.of_clip(frames)
    assert plan.weights.sum() == size
    assert plan.positions.tolist() == sorted(set(plan.positions.tolist()))
    speech = -(-frames // 2)
    assert plan.positions[:speech].tolist() == list(range(speech)) and (plan.weights[:speech] == 1).all()
    assert plan.weights.max() <= stride
    # About one of stride positions is left of the silence: two runs more at most, one not full and the window's end.
    silent = size - len(plan.positions[: max(speech + keep, 1)])
    assert len(plan.positions) - (size - silent) <= silent / stride + 2 * run + bucket


def test_a_batch_is_padded_with_keys_that_nothing_attends_to() -> None:
    tensors = as_tensors([Window(20, 0, 10).of_clip(6), Window(20, stride=0).of_clip(18)])
    assert tensors["positions"].tolist() == [[0, 1, 2, 7, 15, 19, *[0] * 10], [*range(9), *[0] * 7]]
    weights = tensors["log_weights"].exp()
    assert_close(weights[0], torch.tensor([1.0, 1, 1, 10, 6, 1, *[0] * 10]))
    assert_close(weights[1], torch.tensor([*[1.0] * 9, *[0.0] * 7]))
    assert tensors["log_weights"].dtype == torch.float32 and tensors["positions"].dtype == torch.int64


def test_clips_that_keep_equally_many_need_no_mask() -> None:
    """Neither padding of the batch nor a key that stands for others: all log weights would be 0."""
    bucket = Window(200, stride=0, bucket=50)
    alike = bucket.of_batch([101, 199, 120])
    assert alike.keys() == {"positions"} and alike["positions"].dtype == torch.int64
    assert alike["positions"].tolist() == [list(range(100))] * 3
    assert Window(20, 0, 1).of_batch([4, 30]).keys() == {"positions"}
    assert (
        bucket.of_batch([99, 101]).keys() == Window(20, 0, 10).of_batch([6, 6]).keys() == {"positions", "log_weights"}
    )


@pytest.mark.parametrize("frames", [*range(8), 57, 58, 59, 64, 390, 392, 393, 394, 395, 396, 399, 400])
def test_the_stem_of_few_frames_is_that_of_all(frames: int) -> None:
    """Also where the clip ends within the reach of the window's end, whose last position sees the zeros behind it."""
    torch.manual_seed(frames)
    window = Window(200)
    whole = torch.randn(1, 4, window.frames)
    whole[:, :, frames:] = -1.3
    convolve = torch.nn.Sequential(
        torch.nn.Conv1d(4, 6, 3, padding=1), torch.nn.GELU(), torch.nn.Conv1d(6, 6, 3, stride=2, padding=1)
    )
    positions = torch.arange(200)[None]
    fewest = min(2 * -(-(frames + MARGIN) // 2), window.frames)
    for count in (fewest, window.padded_frames([frames])):
        computed = convolve(whole[:, :, :count])
        found = computed[:, :, stem_source(positions, computed.shape[-1], 200)[0]]
        assert_close(found, convolve(whole), rtol=0, atol=1e-6)
    assert fewest <= window.padded_frames([frames]) <= fewest + 64


def test_one_frame_less_of_margin_would_not_do() -> None:
    torch.manual_seed(0)
    whole = torch.randn(1, 4, 400)
    whole[:, :, 20:] = -1.3
    convolve = torch.nn.Conv1d(4, 6, 5, stride=2, padding=2)  # the reach of the two together
    for margin, equal in ((MARGIN, True), (MARGIN - 2, False)):
        computed = convolve(whole[:, :, : 20 + margin])
        found = computed[:, :, stem_source(torch.arange(200)[None], computed.shape[-1], 200)[0]]
        assert torch.allclose(found, convolve(whole), rtol=0, atol=1e-6) is equal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("appended", [0, 300])
def test_a_packed_plan_comes_back_to_the_bit(dtype: torch.dtype, appended: int) -> None:
    plan = Window(1500, 25, 10).of_batch([0, 77, 600])
    features = torch.randn(3, 8, 704).to(dtype)
    packed = functional.pad(pack(features, **plan), (0, appended))
    assert packed.dtype == dtype and packed.shape[1] > 8
    again, positions, log_weights = unpack(packed[1:], 8)
    assert torch.equal(again, features[1:])
    assert torch.equal(positions, plan["positions"][1:])
    assert log_weights is not None and torch.equal(log_weights, plan["log_weights"][1:])


def test_a_packed_plan_without_weights_comes_back_without() -> None:
    plan = Window(1500, stride=0, bucket=8).of_batch([100, 98])
    assert set(plan) == {"positions"}
    features, positions, log_weights = unpack(pack(torch.randn(2, 8, 128), plan["positions"], None), 8)
    assert features.shape == (2, 8, 128) and torch.equal(positions, plan["positions"]) and log_weights is None


def clips(*frames: int) -> list[np.ndarray]:
    generator = np.random.default_rng(len(frames))
    return [generator.standard_normal((count, 4)).astype(np.float16) for count in frames]


def test_planned_padder_pads_to_the_longest_clip_and_carries_the_plan() -> None:
    given = clips(101, 40)
    batch = PlannedPadder(Window(200, 5, 10), 4)(given)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_features": (2, 4, 128),
        "positions": (2, 72),
        "log_weights": (2, 72),
    }
    for place, clip in enumerate(given):
        assert_close(batch["input_features"][place, :, : len(clip)].T, torch.from_numpy(clip).float())
        silence = batch["input_features"][place, :, len(clip) :]
        assert_close(silence, torch.full_like(silence, padding_value(clip)))


def test_planned_padder_makes_a_batch_of_nothing() -> None:
    batch = PlannedPadder(Window(200, 5, 10), 4)([])
    assert batch["input_features"].shape[:2] == (1, 4) and batch["log_weights"][0].exp().sum() == 200


def test_mixed_padder_gives_its_share_to_the_whole_window_and_repeats_itself() -> None:
    generator = np.random.default_rng(0)
    batches = [[generator.standard_normal((6, 4)).astype(np.float16) for _ in range(2)] for _ in range(400)]
    padder = MixedPadder(WindowPadder(40, 4), PlannedPadder(Window(20, 0, 4), 4), share=0.25, seed=1)
    whole = ["positions" not in padder(batch) for batch in batches]
    assert 70 < sum(whole) < 130
    assert whole == ["positions" not in padder(batch) for batch in batches]
    other = MixedPadder(padder.whole, padder.part, 0.25, seed=2)
    assert whole != ["positions" not in other(batch) for batch in batches]
    assert "positions" in padder([])


def test_plans_of_own_making_can_be_batched() -> None:
    plan = ClipPlan(np.array([0, 4, 9]), np.array([4, 5, 11]))
    assert_close(as_tensors([plan])["log_weights"][0, :3].exp(), torch.tensor([4.0, 5.0, 11.0]))
