"""The demo corpus: what is in it, that nothing leaks between its splits, and that it is spoken once."""

from __future__ import annotations

import os
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("espeakng_loader", reason="the extra `demo` is not installed")

from hf_asr.config.arguments import DataArguments
from hf_asr.data import espeak, synthetic
from hf_asr.data.audio import duration_of, load
from hf_asr.data.corpora import build_splits
from hf_asr.data.synthetic import CORPORA, GRAMMAR, LANGUAGES, SPLITS, Corpus, Split, plan, read, sentences
from hf_asr.errors import UserError
from hf_asr.utterance import Drops, Utterance

ALL = list(product(CORPORA, SPLITS))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both corpora with two clips a language and split."""
    for name, corpus in CORPORA.items():
        splits = {split: Split(2, spoken.voices[:2]) for split, spoken in corpus.splits.items()}
        monkeypatch.setitem(CORPORA, name, Corpus(corpus.rates, corpus.pitches, corpus.noise, splits))


def utterances(split: str = "test", **data: Any) -> list[Utterance]:
    drops = Drops()
    found = list(read(DataArguments(corpus="synthetic", **data), split, drops))
    assert drops.total() == 0
    return found


def planned(name: str, split: str) -> list[synthetic.Clip]:
    return [clip for language in LANGUAGES for clip in plan(name, split, language)]


def test_the_test_split_is_as_large_as_promised() -> None:
    clips = planned("shifted", "test")
    words = {word for clip in clips for word in clip.text.split()}
    assert len(clips) >= 300
    assert len({clip.text for clip in clips}) >= 100
    assert len(words) >= 60
    assert words == {w for columns in GRAMMAR.values() for column in columns for text in column for w in text.split()}
    for language in LANGUAGES:
        assert len({clip.variant for clip in clips if clip.language == language}) >= 2


def test_no_voice_is_in_two_splits() -> None:
    voices = [set(corpus.splits[split].voices) for corpus in CORPORA.values() for split in SPLITS]
    assert all(len(a | b) == len(a) + len(b) for a, b in combinations(voices, 2))
    assert set.union(*voices) <= set(espeak.variants())


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_in_two_splits(language: str) -> None:
    parts = [sentences(language, split) for split in SPLITS]
    assert sum(map(len, parts)) == len({text for part in parts for text in part}) == 4096


@pytest.mark.parametrize(("name", "split"), ALL)
def test_a_plan_is_what_its_corpus_says(name: str, split: str) -> None:
    corpus, clips = CORPORA[name], planned(name, split)
    assert clips == planned(name, split)
    assert len({clip.id for clip in clips}) == len(clips) == 2 * corpus.splits[split].clips
    assert {clip.variant for clip in clips} == set(corpus.splits[split].voices)
    assert {clip.text for clip in clips} <= {text for language in LANGUAGES for text in sentences(language, split)}
    for clip in clips:
        assert corpus.rates[0] <= clip.rate <= corpus.rates[1]
        assert corpus.pitches[0] <= clip.pitch <= corpus.pitches[1]
        assert (clip.noise_db is None) == (corpus.noise is None)
        assert 0.3 <= clip.gain <= 1


def test_shifted_is_another_world_than_clean() -> None:
    clean, shifted = planned("clean", "train"), planned("shifted", "train")
    assert max(clip.rate for clip in shifted) > max(clip.rate for clip in clean) + 20
    assert max(clip.pitch for clip in shifted) > max(clip.pitch for clip in clean) + 10
    assert min(clip.noise_db or 99 for clip in shifted) < 11
    assert {clip.noise_db for clip in clean} == {None}


@pytest.mark.usefixtures("small")
def test_utterances_are_whole(tmp_path: Path) -> None:
    found = utterances(path=str(tmp_path), name="shifted")
    assert [row.language for row in found] == ["en", "en", "ru", "ru"]
    assert [row.speaker for row in found] == ["en-f4", "en-m6", "ru-f4", "ru-m6"]
    assert {row.corpus for row in found} == {"synthetic"}
    for row in found:
        assert row.text in sentences(row.language, "test")
        assert row.duration == pytest.approx(duration_of(row.audio), abs=1e-6)
        assert 0.7 < row.duration < 2
        assert abs(load(row.audio)).max() > 0.1
        assert 10 <= float(row.extra["noise_db"]) <= 25
        assert Path(row.audio.path).is_relative_to(tmp_path)


@pytest.mark.usefixtures("small")
def test_it_is_spoken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = utterances(path=str(tmp_path))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(synthetic, "speak_clips", None)
    assert utterances(path=str(tmp_path)) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written


@pytest.mark.usefixtures("small")
def test_without_a_path_it_is_in_our_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path))
    assert Path(utterances(language="ru")[0].audio.path).is_relative_to(tmp_path / "synthetic")
    assert {path.name.rsplit("-", 1)[0] for path in (tmp_path / "synthetic").glob("*/")} == {"clean-test-ru"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_can_be_chosen(language: str, tmp_path: Path) -> None:
    assert {row.language for row in utterances(path=str(tmp_path), language=language)} == {language}


@pytest.mark.usefixtures("small")
def test_what_was_interrupted_is_not_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(clips: list[synthetic.Clip], folder: Path) -> None:
        (folder / f"{clips[0].id}.wav").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(synthetic, "speak_clips", die)
        utterances(path=str(tmp_path))
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert all(duration_of(row.audio) > 0.7 for row in utterances(path=str(tmp_path)))


@pytest.mark.usefixtures("small")
def test_another_version_of_the_voices_is_another_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = utterances(path=str(tmp_path), language="en")
    monkeypatch.setattr(espeak, "version", lambda: "99")
    second = utterances(path=str(tmp_path), language="en")
    assert [row.text for row in first] == [row.text for row in second]
    assert {row.audio.path for row in first}.isdisjoint(row.audio.path for row in second)


@pytest.mark.parametrize(
    ("data", "split", "message"),
    [
        ({"name": "loud"}, "test", "data.name: expected one of clean, shifted of the synthetic corpus, found 'loud'"),
        ({}, "dev", "data.splits: expected one of train, validation, test of the synthetic corpus, found 'dev'"),
        ({"language": "de"}, "test", "data.language: expected one of en, ru of the synthetic corpus, found 'de'"),
    ],
)
def test_what_there_is_not_is_refused(data: dict[str, Any], split: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        utterances(split, **data)


@pytest.mark.usefixtures("small")
def test_a_folder_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"data\.path: expected a folder to write .* found .*file.*: .*; give another"):
        utterances(path=str(tmp_path / "file"))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", CORPORA)
def test_its_splits_have_no_leaks_and_lose_nothing(name: str, tmp_path: Path) -> None:
    data = DataArguments(corpus="synthetic", name=name, path=str(tmp_path), max_seconds=2)
    splits = build_splits(data, seed=1)
    assert {split: len(found.rows) for split, found in splits.items()} == dict.fromkeys(SPLITS, 4)
    assert [found.warnings for found in splits.values()] == [[], [], []]
    assert [found.drops.counts() for found in splits.values()] == [{}, {}, {}]


@pytest.mark.slow
def test_every_clip_fits_into_two_seconds(tmp_path: Path) -> None:
    seconds = [row.duration for name, split in ALL for row in utterances(split, path=str(tmp_path), name=name)]
    assert max(seconds) < 2
    assert sum(map(os.path.getsize, tmp_path.rglob("*.wav"))) < 400e6
