"""The checks of a corpus: each finds its fault, names it, and is silent about a healthy corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.data.checks import (
    NAMED,
    Transcript,
    check_audio,
    check_characters,
    check_empty,
    check_label_lengths,
    check_round_trip,
    check_script,
    check_speaking_rate,
    check_split,
    name_some,
    spread,
)
from hf_asr.utterance import AudioRef, Drops


def transcripts(*texts: str, seconds: float | None = 1.0, language: str = "en") -> list[Transcript]:
    """Return one transcript a text, all of one length."""
    return [Transcript(f"train: {i}", text, text, seconds, language) for i, text in enumerate(texts)]


def drops(**reasons: int) -> Drops:
    """Return so many dropped clips of each reason."""
    return Drops({reason: [(f"{reason}{i}", "") for i in range(number)] for reason, number in reasons.items()})


@given(st.integers(0, 5000), st.integers(1, 300))
def test_a_sample_is_spread_over_the_whole_and_repeats_nothing(size: int, limit: int) -> None:
    indices = spread(size, limit)
    assert len(indices) == min(size, limit)
    assert len(set(indices)) == len(indices)
    assert all(0 <= index < size for index in indices)
    if size > limit:
        assert max(indices) >= size - 1 - size // limit


@pytest.mark.parametrize(
    ("number", "told"), [(1, "0"), (NAMED, "0; 1; 2; 3; 4"), (NAMED + 2, "0; 1; 2; 3; 4; and 2 more")]
)
def test_the_first_few_are_named_and_the_rest_counted(number: int, told: str) -> None:
    assert name_some([str(i) for i in range(number)]) == told


@pytest.mark.parametrize(
    ("left_out", "ok"),
    [
        (drops(), True),
        (drops(votes=80, garbage=50, not_sampled=500), True),
        (drops(too_long=10), True),
        (drops(too_long=6, too_short=6), False),
        (drops(broken_audio=1), False),
        (drops(missing_audio=1), False),
        (drops(empty_text=1), False),
        (drops(bad_row=1), False),
        (drops(duplicate_id=1), False),
    ],
)
def test_a_split_is_healthy_while_only_filters_left_something_out(left_out: Drops, ok: bool) -> None:
    check = check_split("train", 90, 3600.0, left_out)
    assert check.ok is ok
    assert check.found.startswith("90 clips, 1.00 h")
    assert all(reason in check.found for reason in left_out.reasons)


def test_a_stream_is_told_as_one() -> None:
    assert check_split("train", None, None, Drops()).found == "a stream"


def test_empty_texts_are_named() -> None:
    check = check_empty([Transcript("test: a", "...", " "), Transcript("test: b", "x", "x")])
    assert not check.ok
    assert check.found == "1 of 2: test: a"
    assert check_empty(transcripts("x")).ok


@pytest.mark.parametrize(("length", "ok"), [(447, True), (448, False)])
def test_the_start_token_takes_one_of_the_decoders_positions(length: int, ok: bool) -> None:
    check = check_label_lengths(["train: a", "train: b"], [3, length], 448)
    assert check.ok is ok
    assert f"the longest has {length + 1} tokens" in check.found
    assert ("train: b (449)" in check.found) is not ok


def test_a_round_trip_ignores_spaces_and_shows_what_changed() -> None:
    items = transcripts("two  words", "naïve", "same")
    check = check_round_trip(items, [" two words", "naive", "same"])
    assert not check.ok
    assert check.found == "1 of 3 change: train: 1: 'naïve' -> 'naive'"
    assert check_round_trip(items, [item.spoken for item in items]).ok


def test_characters_that_do_not_come_back_are_named_with_their_number() -> None:
    check = check_characters(transcripts("ab é", "é c"), lambda text: text.encode("ascii", "ignore").decode())
    assert not check.ok
    assert check.found == "4 different, unknown to the tokenizer: 'é' (LATIN SMALL LETTER E WITH ACUTE), 2 times"
    assert check_characters(transcripts("ab é"), str).ok


@pytest.mark.parametrize(
    ("texts", "ok", "named"),
    [
        (["hello there you"] * 20, True, ""),
        (["hello there you", "I", "an ordinary text here", "hello there yo"], True, ""),
        (["hello there you"] * 5 + ["x" * 46], False, "train: 5 (46/s"),
        (["x" * 41], False, "train: 0 (41/s"),
        (["你好吗朋友"] * 9 + ["你" * 16], False, "train: 9 (16/s"),
    ],
)
def test_a_text_too_long_for_its_clip_is_listed(texts: list[str], ok: bool, named: str) -> None:
    check = check_speaking_rate(transcripts(*texts))
    assert check.ok is ok
    assert named in check.found


@pytest.mark.parametrize("seconds", [None, 0.0])
def test_without_durations_the_rate_is_not_checked_and_says_so(seconds: float | None) -> None:
    check = check_speaking_rate(transcripts("a" * 1000, seconds=seconds))
    assert check.ok
    assert "not checked" in check.found


@pytest.mark.parametrize(
    ("texts", "language", "ok"),
    [
        (["Привет", "Пока"], "ru", True),
        (["Hello", "Bye"], "ru", False),
        (["Привет"] * 39 + ["BBC"] * 2, "ru", True),
        (["Привет"] * 37 + ["BBC"] * 3, "ru", False),
        (["whatever"], "tlh", True),
        (["12", "..."], "ru", True),
    ],
)
def test_texts_are_in_the_script_of_their_language(texts: list[str], language: str, ok: bool) -> None:
    check = check_script(transcripts(*texts, language=language))
    assert check.ok is ok
    if not ok:
        assert "in another script: train: " in check.found
        assert "Cyrillic" in check.expected


def clip(kind: str, path: Path) -> AudioRef:
    """Write a clip with one fault and return where it is."""
    tone = np.sin(np.arange(SAMPLE_RATE) / 7).astype(np.float32)
    mp3 = encode(tone, SAMPLE_RATE, "mp3")
    contents = {
        "sound": encode(tone, SAMPLE_RATE, "wav"),
        "text": b"this is no sound at all",
        "empty": b"",
        "cut": mp3[: len(mp3) // 3],
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    return AudioRef(str(path))


def test_clips_that_do_not_decode_are_named(tmp_path: Path) -> None:
    kinds = ["sound", "text", "empty", "missing"]
    clips = [clip(kind, tmp_path / f"{kind}.mp3") for kind in kinds]
    check = check_audio([f"train: {kind}" for kind in kinds], clips, 1000)
    assert not check.ok
    assert check.found.startswith("4 of 1,000 decoded; 3 broken: train: text: ")
    assert all(f"train: {kind}: " in check.found for kind in kinds[1:])
    assert "train: sound" not in check.found
    assert check_audio(["train: sound"], clips[:1], 1).ok


def test_a_truncated_mp3_is_broken(tmp_path: Path) -> None:
    check = check_audio(["train: cut"], [clip("cut", tmp_path / "cut.mp3")], 1)
    assert not check.ok
