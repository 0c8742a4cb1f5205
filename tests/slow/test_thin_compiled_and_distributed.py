"""Thinned Whisper under torch.compile and DDP: the same losses and gradients as plain and alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from accelerate import PartialState, debug_launcher
from accelerate.state import AcceleratorState
from helpers.thin_clips import SECONDS, pair, planned, prompts, windows
from helpers.tiny_whisper import make_tiny_whisper
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from hf_asr.models.losses import summed_cross_entropy
from hf_asr.models.whisper_thin import ThinWhisper

pytestmark = pytest.mark.slow
FRAMES = (101, 40, 0, 77)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_whisper(tmp_path / "model", chunk_length=SECONDS)


def batch_of(places: slice) -> dict[str, torch.Tensor]:
    """Return a part of four clips, with decoder inputs."""
    frames = FRAMES[places]
    inputs = planned(windows(FRAMES)[places], frames, stride=10)
    return {**inputs, "decoder_input_ids": prompts(4)[places]}


def gradients(model: torch.nn.Module, places: slice, factor: float = 1.0) -> dict[str, torch.Tensor]:
    batch = batch_of(places)
    (summed_cross_entropy(model(**batch).logits, batch["decoder_input_ids"]) * factor).backward()
    named = {name.removeprefix("module."): value.grad for name, value in model.named_parameters()}
    return {name: value for name, value in named.items() if value is not None}


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled(folder: Path) -> None:
    stock, thin = pair(folder)
    expected = gradients(thin, slice(None))
    plain = thin(**batch_of(slice(None))).logits
    thin.zero_grad()
    compiled = torch.compile(thin)
    assert_close(compiled(**batch_of(slice(None))).logits, plain, rtol=0, atol=1e-4)
    for name, value in gradients(compiled, slice(None)).items():
        whole = expected[name.removeprefix("_orig_mod.")]
        assert_close(value, whole, rtol=1e-3, atol=1e-4 * max(1.0, float(whole.abs().max())))
    with torch.no_grad():
        same = compiled(**planned(windows()), decoder_input_ids=prompts()).logits
        assert_close(same, stock(windows(), decoder_input_ids=prompts()).logits, rtol=0, atol=1e-4)


def on_each_of_two(thin: ThinWhisper, expected: dict[str, torch.Tensor]) -> None:
    """Run on each process; what is wrong there ends the test."""
    torch.set_num_threads(1)
    assert PartialState(cpu=True).num_processes == 2
    rank = torch.distributed.get_rank()
    model = DistributedDataParallel(thin)
    # DDP averages over the two processes; their plans have other lengths.
    found = gradients(model, slice(rank * 2, rank * 2 + 2), factor=2.0)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-5, atol=1e-5 * max(1.0, float(value.abs().max())))


def test_two_processes_add_up_to_one(folder: Path) -> None:
    _, thin = pair(folder)
    expected = gradients(thin, slice(None))
    thin.zero_grad()
    AcceleratorState._reset_state(True)
    debug_launcher(on_each_of_two, (thin, expected), num_processes=2)
    AcceleratorState._reset_state(True)
