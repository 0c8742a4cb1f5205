"""Clips encoded many at a time are those encoded one by one."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.clips import noise, row_of, split_of, tone, write_clip
from helpers.tiny_whisper import tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from hf_asr.config.arguments import FeatureArguments
from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError
from hf_asr.features import cache
from hf_asr.features.cache import PreparedSplit, prepare_features
from hf_asr.features.extract import ClipEncoder, LogMel, OneClip, TokenLabels, extent, log_mel
from hf_asr.features.spectrogram import spectrograms
from hf_asr.features.together import encoding_together, gpu_for

TOKENIZER = tiny_tokenizer()
CPU = torch.device("cpu")
GPU = pytest.param(torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.fixture
def encoder() -> ClipEncoder:
    prefix = (TOKENIZER.get_vocab()["<|notimestamps|>"],)
    labeller = TokenLabels(TOKENIZER, prefix=prefix, end_token=TOKENIZER.eos_token_id, max_tokens=64)
    return ClipEncoder(LogMel(WhisperFeatureExtractor(chunk_length=4)), labeller)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Seven clips: one is missing, one too short, one longer than the window, one has no sample."""
    lengths = (0.5, 1.0, 1.5, 0.1, 2.0, 5.0, 0.0)
    paths = [write_clip(tmp_path / f"{index}.wav", noise(seconds, index)) for index, seconds in enumerate(lengths)]
    paths[1].unlink()
    return [row_of(path, f"text {path.stem}") for path in paths]


def together(clips: Sequence[np.ndarray], extractor: WhisperFeatureExtractor, device: torch.device) -> list[np.ndarray]:
    extents = [extent(clip, extractor) for clip in clips]
    found = spectrograms(clips, [length for _, length in extents], extractor, device)
    return [each[:touched] for each, (touched, _) in zip(found, extents, strict=True)]


@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
def test_rounded_matrix_products_change_no_features(device: torch.device) -> None:
    """`training.tf32` rounds the factors of matrix products, on a CPU to bfloat16 where it can."""
    extractor, clip = WhisperFeatureExtractor(), noise(1.0, 0)
    exact = together([clip], extractor, device)[0]
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        rounded = together([clip], extractor, device)[0]
    finally:
        torch.set_float32_matmul_precision(precision)
    assert np.array_equal(rounded, exact)


@pytest.mark.parametrize("device", [CPU, GPU], ids=str)
def test_spectrograms_of_unlike_clips_together(device: torch.device) -> None:
    extractor = WhisperFeatureExtractor(feature_size=128)
    silence_then_click = np.concatenate([np.zeros(30_000), [0.9]]).astype(np.float32)
    clips = [noise(3.0), np.ones(1, dtype=np.float32), tone(29.995), noise(30.0), silence_then_click]
    clips += [noise(2.0, level=1e-7), np.zeros(40_000, dtype=np.float32), noise(30.0 + 2 / SAMPLE_RATE)]
    for clip, found in zip(clips, together(clips, extractor, device), strict=True):
        np.testing.assert_allclose(found, log_mel(clip, extractor), atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(1, 20_000), min_size=1, max_size=6), level=st.sampled_from([1.0, 1e-4, 0.0]))
def test_a_clips_neighbours_change_nothing(lengths: list[int], level: float) -> None:
    extractor = WhisperFeatureExtractor(chunk_length=1)
    clips = [noise(2.0, place, level if place % 2 else 1.0)[:length] for place, length in enumerate(lengths)]
    for clip, found in zip(clips, together(clips, extractor, CPU), strict=True):
        np.testing.assert_allclose(found, log_mel(clip, extractor), atol=1e-5, rtol=0)


def test_rows_together_are_rows_one_by_one(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    with encoding_together(encoder, CPU, threads=2) as encode:
        found = encode(rows)
    expected = [encoder(row) for row in rows]
    assert [row["error"].split(":")[0] for row in found] == [
        "", "broken_audio", "", "too_short", "", "too_long", expected[6]["error"].split(":")[0]
    ]  # fmt: skip
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            one["input_features"].astype(np.float32), other["input_features"].astype(np.float32), atol=2e-3
        )
        assert {**one, "input_features": 0} == {**other, "input_features": 0}


def test_nothing_that_can_be_used(rows: list[dict[str, Any]], encoder: ClipEncoder) -> None:
    with encoding_together(encoder, CPU, threads=1) as encode:
        assert [row["error"] for row in encode(rows[1:2])] == [encoder(rows[1])["error"]]


def test_a_thread_that_decodes_has_one_core(encoder: ClipEncoder) -> None:
    """Each would start as many of torch's own as there are cores: resampling is a matrix product."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with encoding_together(encoder, CPU, threads=2) as encode:
            assert encode.decoders.submit(torch.get_num_threads).result() == 1
            assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def prepare(rows: list[dict[str, Any]], encoder: ClipEncoder, device: str, on_bad_clip: str = "skip") -> PreparedSplit:
    features = FeatureArguments(device=device, store_dtype="float16")
    return prepare_features(split_of(rows), encoder, fingerprint={}, features=features, on_bad_clip=on_bad_clip)


def test_a_cache_written_together_is_the_same_cache(
    rows: list[dict[str, Any]],
    encoder: ClipEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path / "apart"))
    apart = prepare(rows, encoder, "cpu")
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path / "together"))
    monkeypatch.setattr(cache, "gpu_for", lambda *_: CPU)
    with caplog.at_level(logging.INFO):
        joint = prepare(rows, encoder, "auto")
    assert "threads and cpu" in caplog.text
    assert apart.folder is not None and joint.folder is not None and apart.folder.name == joint.folder.name
    before, after = (json.loads((folder / "manifest.json").read_text()) for folder in (apart.folder, joint.folder))
    assert before["drops"] == after["drops"] and before["settings"] == after["settings"]
    assert len(joint.rows) == len(apart.rows) == 3
    for index in range(3):
        np.testing.assert_allclose(
            joint.rows[index]["input_features"].astype(np.float32),
            apart.rows[index]["input_features"].astype(np.float32),
            atol=2e-3,
        )
    (joint.folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"data\.on_bad_clip=raise: expected every clip to be usable, found 1"):
        prepare(rows, encoder, "auto", on_bad_clip="raise")


def test_a_gpu_is_taken_where_it_is_asked_for_there_and_of_use(
    encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform = ClipEncoder(OneClip(None, "input_values", 1, 16_000.0), encoder.labeller)
    dithered = ClipEncoder(LogMel(WhisperFeatureExtractor(dither=1e-5)), encoder.labeller)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert gpu_for(encoder, "cpu") is gpu_for(waveform, "auto") is gpu_for(dithered, "auto") is None
    assert gpu_for(encoder, "auto") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert gpu_for(encoder, "auto") == torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_for(encoder, "auto") is None
