"""The bars of decompressing, indexing and reading headers were drawn on stdout, which belongs to results."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from helpers.tiny_corpus import make_tiny_corpus

from hf_asr.config.arguments import DataArguments
from hf_asr.data import archives, durations
from hf_asr.data.corpora import build_splits


def test_nothing_is_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ASR_CACHE", str(tmp_path / "cache"))
    for module, name in ((archives, "_SHOW_PROGRESS_BYTES"), (archives, "_BLOCK"), (durations, "_SHOW_PROGRESS")):
        monkeypatch.setattr(module, name, 1)
    make_tiny_corpus(tmp_path / "ru" / "clips", train=4, validation=0, test=0)
    lines = ["client_id\tpath\tsentence", *(f"a\tclip{index}.wav\tb" for index in range(4))]
    (tmp_path / "ru" / "train.tsv").write_text("\n".join(lines) + "\n")
    with tarfile.open(tmp_path / "ru.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "ru", arcname="ru")
    data = DataArguments(corpus="common_voice", path=str(tmp_path / "ru.tar.gz"))
    assert len(build_splits(data, seed=0, names=["train"])["train"].rows) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "decompressing" in printed.err and "durations" in printed.err
