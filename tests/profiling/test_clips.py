"""Clips of a length: neighbours joined, drawn with a seed, kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_asr.data.audio import SAMPLE_RATE, encode
from hf_asr.errors import UserError
from hf_asr.profiling.clips import FILLED, GAP, noise_clips, plan, speech_clips
from hf_asr.profiling.synthetic import LEVEL, noise
from hf_asr.utterance import AudioRef, Utterance


def rows(*seconds: float) -> list[dict[str, Any]]:
    """Return rows of clips that last so long, each at a level of its own."""
    made = []
    for place, length in enumerate(seconds):
        samples = np.full(round(length * SAMPLE_RATE), 0.1 * (place + 1), dtype=np.float32)
        audio = AudioRef(data=encode(samples, SAMPLE_RATE, "wav"))
        made.append(Utterance(f"u{place}", audio, f"word{place}", f"s{place // 2}", length).as_row())
    return made


@given(st.lists(st.floats(0.3, 12.0), max_size=30), st.sampled_from([2.0, 5.0, 15.0]), st.integers(0, 5))
def test_a_plan_takes_neighbours_once_and_fills_the_clip(lengths: list[float], duration: float, seed: int) -> None:
    groups = plan(lengths, duration, 4, seed)
    used = [place for group in groups for place in group]
    assert len(used) == len(set(used)) and len(groups) <= 4
    for group in groups:
        assert group == list(range(group[0], group[0] + len(group)))
        filled = sum(lengths[place] for place in group) + GAP * (len(group) - 1)
        assert FILLED * duration <= filled <= duration + 1e-2


def test_joined_neighbours_have_their_words_and_the_clip_its_length(tmp_path: Path) -> None:
    (clip,) = speech_clips(rows(2.0, 2.0), 5.0, 4, 42, tmp_path)
    assert (clip.id, clip.text, clip.speaker, clip.speech) == ("u0+u1", "word0 word1", "s0", 4.0)
    samples = clip.samples()
    assert len(samples) == 5 * SAMPLE_RATE
    assert samples[SAMPLE_RATE] == pytest.approx(0.1, abs=1e-3)
    assert samples[round(2.1 * SAMPLE_RATE)] == 0.0, "a gap between neighbours"
    assert samples[round(3.0 * SAMPLE_RATE)] == pytest.approx(0.2, abs=1e-3)


def test_they_are_read_from_disk_the_second_time(tmp_path: Path) -> None:
    corpus = rows(1.8, 1.9, 1.7)
    first = speech_clips(corpus, 2.0, 2, 42, tmp_path)
    marked = Path(first[0].path)
    stamp = marked.stat().st_mtime_ns
    assert speech_clips(corpus, 2.0, 2, 42, tmp_path) == first
    assert marked.stat().st_mtime_ns == stamp
    assert {clip.id for clip in speech_clips(corpus, 2.0, 3, 42, tmp_path)} == {"u0", "u1", "u2"}, "others are wanted"


def test_a_corpus_without_clips_that_long_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--durations 60: expected neighbours"):
        speech_clips(rows(1.0, 2.0), 60.0, 4, 42, tmp_path)


def test_noise_has_speechs_level_and_the_seeds_samples() -> None:
    samples = noise(2.0, 7)
    assert len(samples) == 2 * SAMPLE_RATE and samples.dtype == np.float32
    assert float(np.sqrt(np.mean(samples**2))) == pytest.approx(LEVEL, rel=0.01)
    assert np.array_equal(samples, noise(2.0, 7)) and not np.array_equal(samples, noise(2.0, 8))
    assert [len(clip.samples()) for clip in noise_clips(1.0, 3, 0)] == [SAMPLE_RATE] * 3
