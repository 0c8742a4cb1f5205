"""Features equal the model's own extractor's; labels have one end and no start; what cannot be used says why."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.clips import noise, row_of, tone, write_clip
from helpers.tiny_whisper import tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from hf_asr.features import extract
from hf_asr.features.extract import ClipEncoder, LogMel, TokenLabels, log_mel, padding_value
from hf_asr.features.spectrogram import spectrogram

TOKENIZER = tiny_tokenizer()
VOCABULARY = TOKENIZER.get_vocab()
PREFIX = tuple(VOCABULARY[f"<|{name}|>"] for name in ("ru", "transcribe", "notimestamps"))
START, END = VOCABULARY["<|startoftranscript|>"], VOCABULARY["<|endoftext|>"]

CLIPS = {
    "noise": noise(3.0),
    "not a whole frame": noise(2.34567),
    "tone": tone(1.0),
    "digital silence": np.zeros(40_000, dtype=np.float32),
    "-50 dBFS": noise(2.0, level=10 ** (-50 / 20)),
    "below the floor": noise(2.0, level=1e-7),
    "silence, then a click": np.concatenate([np.zeros(30_000), [0.9]]).astype(np.float32),
    "one sample": np.ones(1, dtype=np.float32),
    "shorter than a hop": tone(0.006),
    "almost the window": tone(29.995),
    "the window": noise(30.0),
    "two samples more": noise(30.0 + 2 / 16_000),
}


def padded(features: np.ndarray, frames: int) -> np.ndarray:
    """Fill (M, F) features up to the window as the collator does."""
    whole = np.full((frames, features.shape[1]), padding_value(features), dtype=np.float32)
    whole[: len(features)] = features
    return whole


OF_LABELS = ("prefix", "end_token", "max_tokens", "text_prefix", "text_pipeline")


def encoder_of(extractor: WhisperFeatureExtractor | None = None, **changes: Any) -> ClipEncoder:
    labels = {"tokenizer": TOKENIZER, "prefix": PREFIX, "end_token": END, "max_tokens": 64}
    labels |= {name: changes.pop(name) for name in [*changes] if name in OF_LABELS}
    return ClipEncoder(LogMel(extractor or WhisperFeatureExtractor(chunk_length=4)), TokenLabels(**labels), **changes)


@pytest.mark.parametrize("mel_bins", [80, 128])
@pytest.mark.parametrize("name", CLIPS)
def test_features_equal_the_extractors(name: str, mel_bins: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=mel_bins)
    samples = CLIPS[name]
    expected = extractor(samples, sampling_rate=16_000, return_tensors="np")["input_features"][0].T
    features = log_mel(samples, extractor)
    np.testing.assert_allclose(padded(features, 3000), expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(padded(features.astype(np.float16), 3000), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("hop", "chunk"), [(160, 4), (320, 7), (200, 1)])
def test_frames_are_read_from_the_extractor(hop: int, chunk: int) -> None:
    extractor = WhisperFeatureExtractor(hop_length=hop, chunk_length=chunk)
    samples = noise(0.8)
    expected = extractor(samples, sampling_rate=16_000, return_tensors="np")["input_features"][0].T
    assert len(expected) == extractor.nb_max_frames
    np.testing.assert_allclose(padded(log_mel(samples, extractor), len(expected)), expected, atol=1e-4, rtol=0)


@given(length=st.integers(1, 20_000), level=st.sampled_from([1.0, 0.01, 1e-4, 0.0]), seed=st.integers(0, 9))
def test_any_length_and_level(length: int, level: float, seed: int) -> None:
    extractor = WhisperFeatureExtractor(chunk_length=1)
    samples = noise(2.0, seed, level)[:length]
    expected = extractor(samples, sampling_rate=16_000, return_tensors="np")["input_features"][0].T
    np.testing.assert_allclose(padded(log_mel(samples, extractor), 100), expected, atol=1e-4, rtol=0)


def test_only_frames_that_touch_the_clip_are_kept() -> None:
    # 48,000 samples are 300 hops; the 400-sample window of two more frames reaches back into them.
    features = log_mel(noise(3.0), WhisperFeatureExtractor())
    assert features.shape == (302, 80)
    assert features.dtype == np.float32


def test_the_window_itself_is_never_transformed(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def watched(samples: np.ndarray, length: int, extractor: WhisperFeatureExtractor) -> np.ndarray:
        lengths.append(length)
        return spectrogram(samples, length, extractor)

    monkeypatch.setattr(extract, "spectrogram", watched)
    log_mel(noise(3.0), WhisperFeatureExtractor())
    assert lengths == [302 * 160 + 400]


def test_an_extractor_with_dither_is_run_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "spectrogram", None)
    features = log_mel(noise(1.0), WhisperFeatureExtractor(dither=1e-5))
    assert features.shape == (102, 80)


def test_an_encoded_row(tmp_path: Path) -> None:
    row = row_of(write_clip(tmp_path / "clip.wav", noise(1.5)), "Hello")
    encoded = encoder_of()(row)
    assert {name: encoded[name] for name in ("id", "text", "speaker", "duration", "error")} == {
        "id": "clip",
        "text": "Hello",
        "speaker": "speaker",
        "duration": 1.5,
        "error": "",
    }
    assert encoded["input_features"].shape == (152, 80)
    assert encoded["input_features"].dtype == np.float16
    assert encoded["labels"] == [*PREFIX, *(VOCABULARY[letter] for letter in "Hello"), END]


def test_the_same_row_gives_the_same_output_after_pickling(tmp_path: Path) -> None:
    encoder, row = encoder_of(), row_of(write_clip(tmp_path / "clip.wav", noise(1.0)))
    first, second = encoder(row), pickle.loads(pickle.dumps(encoder))(row)
    np.testing.assert_array_equal(first.pop("input_features"), second.pop("input_features"))
    assert first == second


@pytest.mark.parametrize(
    ("seconds", "text", "changes", "error"),
    [
        (0.2, "x", {}, "too_short: 0.20 s, data.min_seconds is 0.3"),
        (0.3, "x", {}, ""),
        (2.6, "x", {"max_seconds": 2.5}, "too_long: 2.60 s, data.max_seconds is 2.5"),
        (2.5, "x", {"max_seconds": 2.5}, ""),
        (4.1, "x", {}, "too_long: 4.10 s, the model's window is 4"),
        (4.0, "x", {}, ""),
        (1.0, "x" * 60, {}, "label_too_long: 65 tokens, the decoder has 64 positions"),
        (1.0, "x" * 59, {}, ""),
        (1.0, "", {}, ""),
    ],
)
def test_limits(tmp_path: Path, seconds: float, text: str, changes: dict[str, float], error: str) -> None:
    encoded = encoder_of(**changes)(row_of(write_clip(tmp_path / "clip.wav", noise(seconds)), text))
    assert encoded["error"] == error
    assert bool(encoded["labels"]) == (len(encoded["input_features"]) > 0) == (error == "")
    assert encoded["input_features"].shape[1] == 80


@pytest.mark.parametrize("content", [None, b"", b"this is text, not audio" * 50])
def test_a_broken_clip_is_a_row_with_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "clip.mp3"
    if content is not None:
        path.write_bytes(content)
    encoded = encoder_of()(row_of(path))
    assert encoded["error"].startswith("broken_audio: ")
    assert encoded["labels"] == []
    assert encoded["input_features"].shape == (0, 80)


def test_length_is_measured_after_trimming(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(16_000), noise(0.5), np.zeros(16_000)]).astype(np.float32)
    row = row_of(write_clip(tmp_path / "clip.wav", samples))
    assert encoder_of()(row)["duration"] == 2.5
    trimmed = encoder_of(trim_silence=True)(row)
    assert 0.5 <= trimmed["duration"] <= 1.0
    assert len(trimmed["input_features"]) < 105


def test_labels_pass_the_text_pipeline_and_the_reference_does_not(tmp_path: Path) -> None:
    row = row_of(write_clip(tmp_path / "clip.wav", noise(1.0)), "Hello, World!")
    encoded = encoder_of(text_pipeline="basic")(row)
    assert TOKENIZER.decode(encoded["labels"], skip_special_tokens=True) == "hello world"
    assert encoded["text"] == "Hello, World!"


@given(
    text=st.text(max_size=40) | st.sampled_from(["<|endoftext|>", "a <|startoftranscript|> b", "<|en|><|translate|>"])
)
def test_one_end_and_no_start_whatever_the_text(text: str) -> None:
    labels = encoder_of().labeller.encode(text)
    assert labels.count(END) == 1
    assert labels[-1] == END
    assert START not in labels
    assert tuple(labels[:3]) == PREFIX
    assert not {*labels[3:-1]} & {*TOKENIZER.all_special_ids}


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_labels_decode_to_the_text(text: str) -> None:
    assert TOKENIZER.decode(encoder_of().labeller.encode(text)[3:-1]) == text.strip()


@pytest.mark.parametrize(("text", "written"), [("word", " word"), ("  word ", " word"), ("", ""), ("  ", "")])
def test_a_space_before_a_text_that_is_not_empty(text: str, written: str) -> None:
    assert TOKENIZER.decode(encoder_of(text_prefix=" ").labeller.encode(text)[3:-1]) == written


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text_pipeline", "basic"),
        ("level", "peak"),
        ("trim_silence", True),
        ("min_seconds", 0.1),
        ("max_seconds", 3.0),
        ("store_dtype", "float32"),
        ("max_tokens", 32),
        ("prefix", PREFIX[1:]),
        ("end_token", 7),
        ("text_prefix", " "),
        ("identity", {"tokenizer": "another"}),
    ],
)
def test_every_setting_is_in_the_fingerprint(name: str, value: object) -> None:
    assert encoder_of(**{name: value}).fingerprint() != encoder_of().fingerprint()


def test_bytes_per_second() -> None:
    assert encoder_of().bytes_per_second == 100 * 80 * 2
    assert (
        encoder_of(WhisperFeatureExtractor(feature_size=128), store_dtype="float32").bytes_per_second == 100 * 128 * 4
    )
