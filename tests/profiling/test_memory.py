"""Memory is forecast from shapes, and measured while a cell runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.tiny_whisper import make_tiny_whisper
from torch import nn

from hf_asr.profiling.counted import LiveBytes
from hf_asr.profiling.memory import Forecast, MemoryOfModel, PeakMeter, frames_of, input_shapes, num_windows
from hf_asr.profiling.subject import Subject, find_subject


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A tiny Whisper with a window of 2 s."""
    return find_subject(str(make_tiny_whisper(tmp_path_factory.mktemp("whisper"), chunk_length=2)), language="en")


def test_live_bytes_follow_what_is_alive_at_once() -> None:
    model = nn.Linear(4, 4)
    with LiveBytes(model) as live:
        first = torch.zeros(1000)
        second = first + 1
        view = second[:10]
        model.weight.t()
    assert live.live == live.peak == 8000
    del first, second
    assert live.live == 4000, "a view keeps its storage"
    del view
    assert live.live == 0 and live.peak == 8000


def test_a_batch_needs_its_weights_once() -> None:
    forecast = Forecast(weights=1000, activations=50, kv_cache=30, decoder=10)
    assert forecast.per_clip == 50
    assert forecast.needed(4) == 1200
    assert forecast.largest_batch(2000) == 16  # nine tenths of 2000, less 1000, by 50
    assert forecast.largest_batch(100) == 0


def test_tied_weights_are_counted_once(whisper: Subject) -> None:
    memory = MemoryOfModel(whisper, torch.float32, "cpu")
    model = whisper.load()
    assert memory.weights == sum(part.numel() * 4 for part in model.parameters())
    assert memory.encoder_weights == sum(part.numel() * 4 for part in model.get_encoder().parameters())


def test_half_the_bytes_in_half_precision(whisper: Subject) -> None:
    whole, half = (MemoryOfModel(whisper, dtype, "cpu").forecast(2.0, 4) for dtype in (torch.float32, torch.bfloat16))
    assert (half.weights, half.kv_cache) == (whole.weights // 2, whole.kv_cache // 2)
    # Two layers' keys and values: 100 states of cross-attention, five tokens.
    assert whole.kv_cache == 2 * 4 * 16 * (100 + 5)


def test_eager_attention_keeps_its_matrix(whisper: Subject) -> None:
    fused, eager = (MemoryOfModel(whisper, torch.float32, "cpu", name).forecast(2.0, 4) for name in ("sdpa", "eager"))
    assert eager.activations > fused.activations


def test_shapes_are_those_of_a_window(whisper: Subject) -> None:
    shapes = input_shapes(whisper, 5.0, batch=3)
    assert shapes == {"input_features": ((3, 80, 200), torch.float32)}
    assert frames_of(whisper, shapes) == 200
    assert [num_windows(whisper, seconds) for seconds in (1.0, 2.0, 2.1, 5.0)] == [1, 1, 2, 3]


def test_the_peak_of_this_process_is_seen() -> None:
    with PeakMeter(torch.device("cpu")) as meter:
        filled = np.ones(2**22)
    assert meter.peak > filled.nbytes
