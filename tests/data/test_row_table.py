"""Rows of utterances on disk: never stale, reused, whole or absent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from helpers.fake_corpora import CORPUS, clip, section, use_fake_corpora

from hf_asr.data.corpora import build_splits
from hf_asr.data.row_table import table_of
from hf_asr.errors import UserError
from hf_asr.utterance import AudioRef, Utterance

# Fake corpora by data.path: split to utterances.


@pytest.fixture(autouse=True)
def fake_corpora(monkeypatch):
    use_fake_corpora(monkeypatch)


def test_rows_are_never_stale_and_reused_when_nothing_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path))
    first = build_splits(section(), seed=0, names=["train"])["train"].rows
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    again = build_splits(section(), seed=0, names=["train"])["train"].rows
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()} == written
    assert len(written) == 1
    assert first._fingerprint == again._fingerprint
    CORPUS["A"]["train"][3] = replace(CORPUS["A"]["train"][3], text="corrected")
    changed = build_splits(section(), seed=0, names=["train"])["train"].rows
    assert changed[3]["text"] == "corrected"
    assert changed._fingerprint != first._fingerprint
    assert first[3]["text"] == "a 3"


@pytest.mark.parametrize("number", [1, 3, 101, 250])
def test_rows_come_back_as_they_were(number):
    utterances = [
        Utterance(
            id=f"{i}",
            audio=AudioRef("x", bytes([i % 256]) * 10, offset=i, size=2, start=0.5, end=None if i % 2 else 1.0),
            text="ё \u2028 \x1f",
            speaker="s",
            duration=1.25,
            language="ru",
            corpus="c",
            label="l",
            extra={"accent": "é"},
        )
        for i in range(number)
    ]
    rows = table_of(lambda: iter(utterances))
    assert [Utterance.from_row(row) for row in rows] == utterances
    assert list(rows) == [utterance.as_row() for utterance in utterances]


def test_audio_in_rows_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path))
    calls = []
    utterances = [clip("a", audio=AudioRef(data=b"abc"))]
    for _ in range(2):
        table_of(lambda: calls.append(1) or iter(utterances))
    assert len(calls) == 3  # hashed, written; hashed
    other = table_of(lambda: iter([clip("a", audio=AudioRef(data=b"abd"))]))
    assert other[0]["audio"]["data"] == b"abd"


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path))

    def broken() -> Iterator[Utterance]:
        yield clip("a")
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        table_of(broken)
    assert list((tmp_path / "rows").iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "rows").write_text("a file where the folder should be")
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"expected to write the list of clips .*Set HF_ASR_CACHE"):
        build_splits(section(), seed=0, names=["train"])
