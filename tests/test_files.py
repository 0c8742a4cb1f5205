"""Files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hf_asr import files
from hf_asr.files import write_whole


def test_a_write_that_fails_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "kept.tsv"
    write_whole(target, "before\n")

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, "after\n")
    assert target.read_text() == "before\n"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.tsv"]


def test_write_whole_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.txt"
    write_whole(path, "old\n")
    write_whole(path, "новое\n")
    assert path.read_bytes() == "новое\n".encode()
    assert [item.name for item in path.parent.iterdir()] == ["out.txt"]


def test_write_whole_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800", errors="strict")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["out.txt"]
