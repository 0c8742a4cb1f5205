"""Transcription of files of any length: where windows are cut, which road is taken, and what comes out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.scripted_whisper import make_scripted_whisper
from helpers.tiny_whisper import make_tiny_whisper
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.data.audio import SAMPLE_RATE, encode, load
from hf_asr.errors import UserError
from hf_asr.inference.formats import Segment
from hf_asr.inference.transcribe import (
    Transcriber,
    cut_at_quiet,
    failed_trial,
    find_audio,
    join,
    load_transcriber,
    missing_timestamps,
)
from hf_asr.text import apply_pipeline
from hf_asr.utterance import AudioRef

# Without timestamps a window's text is the words; with them each window says "hi" in its first second.
ONE_SEGMENT = ("<|0.00|>", " hi", "<|1.00|>")
# Two equal timestamps end a segment in the middle of a window: the next window begins there.
MOVING_ON = ("<|0.00|>", " hi", "<|1.00|>", "<|1.00|>")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)


def write_clips(folder: Path, **seconds: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, length in seconds.items():
        (folder / f"{name}.wav").write_bytes(encode(noise(length), SAMPLE_RATE, "wav"))
    return folder


def segments_of(transcriber: Transcriber, folder: Path, *, timestamps: bool = True) -> dict[str, list[Segment]]:
    transcripts, _ = transcriber.transcribe(find_audio(folder), timestamps=timestamps, progress=False)
    return {item.file: list(item.segments) for item in transcripts}


@pytest.fixture(scope="module")
def one_segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scripted_whisper(tmp_path_factory.mktemp("one"), ONE_SEGMENT)


@given(st.integers(0, 9000), st.integers(4, 2000), st.integers(0, 5))
def test_windows_follow_each_other_without_gap_or_overlap(length: int, window: int, seed: int) -> None:
    samples = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    pieces = cut_at_quiet(samples, window)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == length
    assert all(before[1] == after[0] for before, after in pairwise(pieces))
    assert all(end - first <= window for first, end in pieces)
    if len(pieces) > 1:
        assert all(end - first >= window // 4 for first, end in pieces)


@pytest.mark.parametrize("pause", [21.0, 25.3, 28.9])
def test_the_cut_lies_in_the_pause(pause: float) -> None:
    samples = noise(50)
    first, end = int(pause * SAMPLE_RATE), int((pause + 0.5) * SAMPLE_RATE)
    samples[first:end] *= 0.01
    (_, cut), _ = cut_at_quiet(samples, 30 * SAMPLE_RATE)
    assert first <= cut <= end


def test_of_equally_quiet_places_the_latest_is_cut() -> None:
    samples = np.zeros(100 * SAMPLE_RATE, dtype=np.float32)
    assert [round((end - first) / SAMPLE_RATE, 1) for first, end in cut_at_quiet(samples, 30 * SAMPLE_RATE)] == [
        29.9, 29.9, 29.9, 10.3,
    ]  # fmt: skip


def test_find_audio_is_sorted_recursive_and_named_from_the_folder(tmp_path: Path) -> None:
    for name in ("b.WAV", "a/z.mp3", "a/notes.txt", "a/.hidden.wav", "c.opus"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert [name for _, name in find_audio(tmp_path)] == ["a/z.mp3", "b.WAV", "c.opus"]
    assert find_audio(tmp_path / "b.WAV") == [(tmp_path / "b.WAV", str(tmp_path / "b.WAV"))]


@pytest.mark.parametrize(
    ("made", "asked", "message"),
    [
        (None, "nothing.wav", "found nothing at"),
        ("talk.docx", "talk.docx", r"\.wav, \.flac, .*, found .*talk\.docx; convert"),
        ("folder/readme.txt", "folder", "found none in"),
    ],
)
def test_find_audio_says_what_is_wrong(tmp_path: Path, made: str | None, asked: str, message: str) -> None:
    if made:
        (tmp_path / made).parent.mkdir(exist_ok=True)
        (tmp_path / made).write_text("x")
    with pytest.raises(UserError, match=message):
        find_audio(tmp_path / asked)


@pytest.mark.parametrize(
    ("plain", "segments", "language", "works"),
    [
        ("one two three four", [(0, 1, "one two"), (1, 2, "three four")], "en", True),
        ("One, two, three four.", [(0, 1, "one two"), (1, 2, "three for")], "en", True),
        ("one two three four", [(0, 1, "one")], "en", False),
        ("one two three four", [], "en", False),
        ("one two", [(1, 1, "one two")], "en", False),
        ("one two", [(0, 1, "one two"), (1, 1, "")], "en", True),
        ("今天天气很好", [(0, 1, "今天"), (1, 2, "天气好")], "zh", True),
    ],
)
def test_trial(plain: str, segments: Sequence[tuple[float, float, str]], language: str, works: bool) -> None:
    assert (failed_trial(plain, [Segment(*part) for part in segments], language) == "") is works


@pytest.mark.parametrize(("language", "text"), [("en", "one two"), ("zh", "onetwo"), ("ja", "onetwo")])
def test_join_puts_spaces_where_the_language_has_them(language: str, text: str) -> None:
    assert join([Segment(0, 1, "one"), Segment(1, 2, ""), Segment(2, 3, "two")], language) == text


@pytest.mark.parametrize("multilingual", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_long_files_follow_the_models_timestamps(tmp_path: Path, multilingual: bool, batch_size: int) -> None:
    model = make_scripted_whisper(tmp_path / "model", ONE_SEGMENT, multilingual=multilingual)
    clips = write_clips(tmp_path / "clips", a=2.0, b=9.5, c=0.7)
    transcriber = load_transcriber(str(model), language="ru" if multilingual else None, batch_size=batch_size)
    transcripts, drops = transcriber.transcribe(find_audio(clips), timestamps=True, progress=False)
    assert transcriber.no_timestamps == ""
    assert drops.total() == 0
    assert [(item.file, item.text, item.duration, item.language) for item in transcripts] == [
        ("a.wav", "hi", 2.0, "ru" if multilingual else "en"),
        ("b.wav", "hi hi hi", 9.5, "ru" if multilingual else "en"),
        ("c.wav", "hi", 0.7, "ru" if multilingual else "en"),
    ]
    # The windows are 4 s long, and a segment never ends after its file.
    assert [[(part.start, part.end) for part in item.segments] for item in transcripts] == [
        [(0.0, 1.0)],
        [(0.0, 1.0), (4.0, 5.0), (8.0, 9.0)],
        [(0.0, 0.7)],
    ]


def test_sequential_decoding_moves_on_by_the_timestamps(tmp_path: Path) -> None:
    model = make_scripted_whisper(tmp_path / "model", MOVING_ON)
    clips = write_clips(tmp_path / "clips", long=5.5)
    transcriber = load_transcriber(str(model), language="en")
    found = segments_of(transcriber, clips)["long.wav"]
    assert transcriber.no_timestamps == ""
    assert [(part.start, part.end, part.text) for part in found] == [
        (float(second), min(second + 1.0, 5.5), "hi") for second in range(6)
    ]


def test_short_files_are_decoded_plainly_unless_times_are_asked_for(tmp_path: Path, one_segment: Path) -> None:
    clips = write_clips(tmp_path, a=2.0)
    transcriber = load_transcriber(str(one_segment), language="en")
    assert segments_of(transcriber, clips, timestamps=False) == {"a.wav": [Segment(0.0, 2.0, "hi")]}
    assert transcriber.no_timestamps is None
    assert segments_of(transcriber, clips) == {"a.wav": [Segment(0.0, 1.0, "hi")]}


def test_untrained_timestamps_are_seen_in_the_weights(tmp_path: Path) -> None:
    folder = make_scripted_whisper(tmp_path / "model", ("<|0.00|>", " hi"))
    clips = write_clips(tmp_path / "clips", a=2.0, b=9.5)
    trained = load_transcriber(str(folder), language="en")
    assert missing_timestamps(trained.model) == ""
    first = trained.model.generation_config.no_timestamps_token_id + 1
    with torch.no_grad():
        trained.model.get_output_embeddings().weight[first:] = 0.5
    untrained = Transcriber(trained.model, trained.family, trained.processor)
    assert "never trained" in str(untrained.no_timestamps)
    found = segments_of(untrained, clips)
    assert found["a.wav"] == [Segment(0.0, 2.0, "hi")]
    assert [part.text for part in found["b.wav"]] == ["hi"] * 3
    assert (found["b.wav"][0].start, found["b.wav"][-1].end) == (0.0, 9.5)
    assert all(before.end == after.start for before, after in pairwise(found["b.wav"]))


def test_forgotten_timestamps_are_seen_in_a_trial(
    tmp_path: Path, one_segment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcriber = load_transcriber(str(one_segment), language="en")
    other = [Segment(0.0, 1.0, "something else")]
    monkeypatch.setattr(transcriber, "_segments", lambda pieces: [other] * len(pieces))
    assert segments_of(transcriber, write_clips(tmp_path, a=2.0)) == {"a.wav": [Segment(0.0, 2.0, "hi")]}
    assert "another text" in str(transcriber.no_timestamps)


def test_a_silent_file_decides_nothing_about_timestamps(tmp_path: Path) -> None:
    transcriber = load_transcriber(str(make_scripted_whisper(tmp_path / "model", ("<|0.00|>", " "))), language="en")
    found = segments_of(transcriber, write_clips(tmp_path / "clips", a=2.0, b=5.0))
    assert transcriber.no_timestamps is None
    assert [part.text for parts in found.values() for part in parts] == ["", "", ""]


def test_a_checkpoint_without_timestamp_tokens(one_segment: Path) -> None:
    model = load_transcriber(str(one_segment), language="en").model
    model.generation_config.no_timestamps_token_id = model.config.vocab_size - 1
    assert missing_timestamps(model) == "its vocabulary has no timestamp tokens"
    model.generation_config.no_timestamps_token_id = None
    assert "no_timestamps_token_id" in missing_timestamps(model)


def test_broken_files_are_named_and_left_out(tmp_path: Path, one_segment: Path) -> None:
    clips = write_clips(tmp_path, a=1.0, z=1.0)
    (clips / "text.mp3").write_text("this is no audio")
    (clips / "empty.wav").write_bytes(b"")
    transcripts, drops = load_transcriber(str(one_segment), language="en").transcribe(find_audio(clips), progress=False)
    assert [item.file for item in transcripts] == ["a.wav", "z.wav"]
    assert drops.counts() == {"broken_audio": 2}
    assert [id for id, _ in drops.reasons["broken_audio"]] == ["empty.wav", "text.mp3"]


def test_the_language_is_detected_where_the_checkpoint_has_none(tmp_path: Path) -> None:
    transcriber = load_transcriber(str(make_tiny_whisper(tmp_path / "model")))
    transcriber.model.generation_config.max_new_tokens = 4
    transcripts, _ = transcriber.transcribe(find_audio(write_clips(tmp_path / "clips", a=1.0)), progress=False)
    features = transcriber.extractor(noise(1.0), sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
    expected = int(transcriber.model.detect_language(input_features=features)[0])
    assert transcriber.generation["lang_to_id"][f"<|{transcripts[0].language}|>"] == expected


def test_a_language_that_is_none_is_refused(one_segment: Path) -> None:
    with pytest.raises(UserError, match="klingon"):
        load_transcriber(str(one_segment), language="klingon")


def test_the_same_file_gives_the_same_text_whatever_came_before(tmp_path: Path) -> None:
    """A random model loops, so its texts are sampled: the seed must come from the file alone."""
    transcriber = load_transcriber(str(make_tiny_whisper(tmp_path / "model", seed=3)), language="ru", batch_size=1)
    transcriber.model.generation_config.max_new_tokens = 20
    clips = write_clips(tmp_path / "clips", a=1.0, b=1.5)
    together, _ = transcriber.transcribe(find_audio(clips), progress=False)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    alone, _ = transcriber.transcribe([(clips / "b.wav", "b.wav")], progress=False)
    assert alone[0] == together[1]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture(scope="module")
def english(shared_data: Path) -> Transcriber:
    """A real model, whose timestamps are untrained."""
    return load_transcriber(str(shared_data / "whisper"))


def test_real_speech_comes_out_right(shared_data: Path, english: Transcriber) -> None:
    transcripts, _ = english.transcribe(find_audio(shared_data / "jfk.flac"), timestamps=True, progress=False)
    words = transcripts[0].text.lower().replace(",", "").replace(".", "")
    assert words == (
        "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
    )
    assert (transcripts[0].duration, transcripts[0].language) == (11.0, "en")
    assert "never trained" in str(english.no_timestamps)


def test_real_speech_longer_than_the_window(shared_data: Path, english: Transcriber, tmp_path: Path) -> None:
    podcast = json.loads((shared_data / "gigaspeech_layout" / "GigaSpeech.json").read_text())["audios"][0]
    samples = load(AudioRef(path=str(shared_data / "gigaspeech_layout" / podcast["path"]), end=40.0))
    (tmp_path / "long.wav").write_bytes(encode(samples, SAMPLE_RATE, "wav"))
    parts = [part["text_tn"] for part in podcast["segments"] if part["end_time"] <= 40]
    said = " ".join(text for text in parts if text not in ("<SIL>", "<NOISE>"))
    transcripts, _ = english.transcribe(find_audio(tmp_path), progress=False)
    sides = [apply_pipeline("basic", text.replace("<PERIOD>", "")).split() for text in (said, transcripts[0].text)]
    # On this model's training speakers about two words in three are right; half a file lost would leave one in three.
    assert difflib.SequenceMatcher(None, *sides, autojunk=False).ratio() > 0.6
    assert [part.end for part in transcripts[0].segments] == [transcripts[0].segments[1].start, 40.0]
