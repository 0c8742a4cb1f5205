"""Joined clips: the features that the extractor gives for their joined audio, and Whisper's own timestamps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.clips import noise, tone
from helpers.tiny_whisper import tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.features.collate import Seq2SeqCollator, WindowPadder
from hf_asr.features.extract import ClipEncoder, LogMel, TokenLabels
from hf_asr.features.packing import NO_ROOM, Joiner, JointFrames, PlainLabels, TimestampLabels

TOKENIZER = tiny_tokenizer()
VOCABULARY = TOKENIZER.get_vocab()
END, PLAIN = VOCABULARY["<|endoftext|>"], VOCABULARY["<|notimestamps|>"]
STAMPS = tuple(VOCABULARY[f"<|{step * 0.02:.2f}|>"] for step in range(201))
LANGUAGE = ("<|ru|>", "<|transcribe|>", "<|notimestamps|>")
EXTRACTOR = WhisperFeatureExtractor(chunk_length=4)


def encoder_of(
    prefix: tuple[str, ...] = LANGUAGE, dtype: str = "float32", extractor: Any = EXTRACTOR, max_tokens: int = 128
) -> ClipEncoder:
    labels = TokenLabels(TOKENIZER, tuple(VOCABULARY[name] for name in prefix), END, max_tokens, text_prefix=" ")
    joiner = Joiner(JointFrames(extractor), TimestampLabels(labels, PLAIN, STAMPS))
    return ClipEncoder(LogMel(extractor), labels, store_dtype=dtype, joining=joiner, min_seconds=0)


def encoded(encoder: ClipEncoder, clips: list[np.ndarray], text: str = "hi") -> list[dict[str, Any]]:
    rows = [{"id": f"clip{place}", "text": text, "label": "", "speaker": ""} for place in range(len(clips))]
    return [encoder.encode(row, clip) for row, clip in zip(rows, clips, strict=True)]


def joined_audio(clips: list[np.ndarray], joiner: Joiner) -> np.ndarray:
    """Return the clips one after the other, each beginning where its timestamp says."""
    parts = []
    for clip in clips:
        length = joiner.features.frames(len(clip) / SAMPLE_RATE) * EXTRACTOR.hop_length
        parts.append(np.pad(clip, (0, length - len(clip))))
    return np.concatenate(parts)


def expected_features(samples: np.ndarray, extractor: Any = EXTRACTOR) -> np.ndarray:
    return np.asarray(extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_features"][0])


LOUD_START = np.concatenate([noise(0.01, level=0.9), noise(0.5, seed=3, level=1e-4)])
CLIPS = {
    "noise": [noise(1.0), noise(0.7, seed=1), noise(1.3, seed=2)],
    "not on the grid": [noise(0.777), tone(1.0001), noise(0.5432, seed=2)],
    "loud behind quiet": [noise(1.0, level=1e-4), noise(1.0, level=0.5)],
    "quiet behind loud": [noise(1.0, level=0.5), noise(1.0, level=1e-4)],
    "silence first": [np.zeros(8000, dtype=np.float32), tone(1.0)],
    "only silence": [np.zeros(8000, dtype=np.float32)] * 3,
    "a mirrored beginning that is the loudest": [LOUD_START, LOUD_START, LOUD_START],
    "that behind silence": [np.zeros(8000, dtype=np.float32), LOUD_START],
    "below the floor": [noise(1.0, level=1e-7), noise(1.0, level=1e-6)],
    "to the window's end": [noise(1.9), noise(2.0 - 0.0301, seed=1)],
    "shorter than an STFT window": [tone(0.004), tone(0.02), noise(1.0)],
    "one": [noise(1.0)],
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float16", 2e-3)])
@pytest.mark.parametrize("name", CLIPS)
def test_features_are_the_extractors_of_the_joined_audio(name: str, dtype: str, tolerance: float) -> None:
    encoder = encoder_of(dtype=dtype)
    assert isinstance(encoder.joining, Joiner)
    window = encoder.joining(encoded(encoder, CLIPS[name]))
    assert window["pieces"] == [f"clip{place}" for place in range(len(CLIPS[name]))] and not window["dropped"]
    padded = WindowPadder(400, 80)([window["input_features"]])["input_features"][0].numpy()
    expected = expected_features(joined_audio(CLIPS[name], encoder.joining))
    np.testing.assert_allclose(padded, expected, atol=tolerance, rtol=0)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 12_000), st.floats(-6, 0), st.booleans()), min_size=2, max_size=5))
def test_any_clips_join_as_their_audio_does(drawn: list[tuple[int, float, bool]]) -> None:
    clips = [noise(length / SAMPLE_RATE, seed=length, level=10**level) for length, level, _ in drawn]
    for clip, (_, _, click) in zip(clips, drawn, strict=True):
        clip[: 3 * click] = 0.9
    encoder = encoder_of()
    assert isinstance(encoder.joining, Joiner)
    window = encoder.joining(encoded(encoder, clips))
    assert len(window["pieces"]) == len(clips)
    padded = WindowPadder(400, 80)([window["input_features"]])["input_features"][0].numpy()
    np.testing.assert_allclose(padded, expected_features(joined_audio(clips, encoder.joining)), atol=1e-4, rtol=0)


def test_joining_changes_nothing_of_the_clip_itself() -> None:
    joining, plain = encoder_of(dtype="float16"), encoder_of(dtype="float16")
    object.__setattr__(plain, "joining", None)
    for clip in (noise(1.0), LOUD_START, noise(4.0)):
        ours, stock = encoded(joining, [clip])[0], encoded(plain, [clip])[0]
        np.testing.assert_array_equal(ours["input_features"], stock["input_features"])
        assert ours["labels"] == stock["labels"] and set(ours) - set(stock) == {"joint"}
    assert len(encoded(joining, [noise(4.0)])[0]["joint"]) == 0, "a clip as long as the window is never joined"


@pytest.mark.parametrize(
    ("prefix", "begins"),
    [(LANGUAGE, "<|ru|><|transcribe|>"), (("<|notimestamps|>",), "")],
    ids=["multilingual", "English-only"],
)
def test_labels_are_those_of_whispers_pretraining(prefix: tuple[str, ...], begins: str) -> None:
    encoder = encoder_of(prefix)
    assert isinstance(encoder.joining, Joiner)
    window = encoder.joining(encoded(encoder, [tone(1.0), tone(0.5), tone(0.75)]))
    read = encoder.joining.labels.read(window["labels"])
    assert read == f"{begins}<|0.00|> hi<|1.04|><|1.04|> hi<|1.58|><|1.58|> hi<|2.36|><|endoftext|>"
    assert window["text"] == "hi hi hi" and window["duration"] == pytest.approx(2.25)
    assert PLAIN not in window["labels"] and window["labels"].count(END) == 1
    single = encoder.joining(encoded(encoder, [tone(1.0)]))
    assert single["labels"] == encoded(encoder, [tone(1.0)])[0]["labels"], "one clip alone has no timestamps"


def test_the_room_is_what_a_label_may_have() -> None:
    encoder = encoder_of(max_tokens=32)
    assert isinstance(encoder.joining, Joiner)
    labels, rows = encoder.joining.labels, encoded(encoder, [tone(0.5)] * 3, text="eight to")
    assert [labels.tokens(row["labels"]) for row in rows] == [11, 11, 11]  # a space, eight letters, two timestamps
    window = encoder.joining(rows)
    assert window["pieces"] == ["clip0", "clip1"] and labels.room == 28
    assert len(window["labels"]) + 1 <= 32
    assert window["dropped"] == [{"id": "clip2", "error": NO_ROOM}]


@pytest.mark.parametrize("prefix", [LANGUAGE, ()])
def test_labels_without_timestamps_are_those_of_one_long_clip(prefix: tuple[str, ...]) -> None:
    labeller = encoder_of(prefix).labeller
    assert isinstance(labeller, TokenLabels)
    plain = PlainLabels(labeller)
    labels = [labeller.encode(text) for text in ("hi", "", "ho ho")]
    window = plain.join(labels, [(0, 100), (100, 120), (120, 200)])
    assert window == labeller.encode("hi ho ho")
    assert len(window) == sum(map(plain.tokens, labels)) + len(prefix) + 1
    assert plain.read(window) == labeller.read(window)
    full = plain.join([[*labeller.prefix, *[labels[0][-2]] * plain.room, END]], [(0, 1)])
    assert labeller.problem({}, full, 0) == "" and labeller.problem({}, [*full, END], 0)


def test_a_clip_without_words_is_silence() -> None:
    encoder = encoder_of()
    assert isinstance(encoder.joining, Joiner)
    rows = encoded(encoder, [tone(1.0), tone(0.5), tone(0.75)])
    rows[1] = encoder.encode({"id": "quiet", "text": " ", "label": "", "speaker": ""}, tone(0.5))
    read = encoder.joining.labels.read(encoder.joining(rows)["labels"])
    assert read == "<|ru|><|transcribe|><|0.00|> hi<|1.04|><|1.58|> hi<|2.36|><|endoftext|>"


def test_broken_clips_are_named_and_the_others_joined() -> None:
    encoder = encoder_of()
    assert isinstance(encoder.joining, Joiner)
    rows = encoded(encoder, [tone(1.0), tone(0.5), tone(0.75)])
    broken = [{**row, "error": "broken_audio: no"} for row in rows]
    window = encoder.joining([rows[0], broken[1], rows[2]])
    assert window["pieces"] == ["clip0", "clip2"] and window["dropped"] == [
        {"id": "clip1", "error": "broken_audio: no"}
    ]
    collate = Seq2SeqCollator(WindowPadder(400, 80), start_token=1, pad_token=END)
    batch = collate([window, encoder.joining(broken)])
    assert batch["ids"] == ["clip0", "clip2"]
    assert sorted(batch["skipped"]) == [(f"clip{place}", "broken_audio: no") for place in (0, 1, 1, 2)]
    assert batch["input_features"].shape == (1, 80, 400) and batch["decoder_input_ids"][0, 0] == 1


def test_too_long_clips_are_left_out_by_name() -> None:
    """Only augmentation can make clips longer than the plan knew."""
    encoder = encoder_of()
    assert isinstance(encoder.joining, Joiner)
    window = encoder.joining(encoded(encoder, [tone(2.0), tone(1.5), tone(1.0), tone(0.2)]))
    assert window["pieces"] == ["clip0", "clip1", "clip3"]
    assert window["dropped"] == [{"id": "clip2", "error": NO_ROOM}]
