"""What `hf-asr profile` says to what it cannot do: one message, exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_asr.cli import main

WORDS = ["profile", "--model", "config:w2v-bert-mini", "--durations", "1", "--batch-sizes", "1"]
WRONG = [
    (["--batch-sizes", "0"], "expected batch sizes above 0, found 0"),
    (["--batch-sizes", "two"], "expected batch sizes, found 'two'"),
    (["--durations", "-5"], "expected seconds above 0, found -5"),
    (["--device", "tpu"], "--device: expected cpu, cuda, found tpu"),
    (["--dtype", "int3"], "--dtype: expected float32, bfloat16, float16, found int3"),
    (["--variants", "sdpa,fast"], "--variants: expected sdpa, eager"),
    (["--tokens", "0"], "--tokens: expected 1 or more, found 0"),
    (["--threads", "0"], "--threads: expected 1 or more, found 0"),
    (["--model", "config:whisper-huge"], "expected one of config:whisper-tiny"),
    (["--model", "config:parakeet-tdt-0.6b-v3"], "whose stages can be timed apart"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_options(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main([*WORDS, *words, "--output-dir", str(tmp_path)])
    except SystemExit as ended:  # argparse's own
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["--model", "--output-dir"])
def test_what_must_be_given(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"--model": ["--output-dir", "x"], "--output-dir": ["--model", "config:w2v-bert-mini"]}[missing]
    assert main(["profile", *words]) == 2
    assert f"{missing}: expected one, found none" in capsys.readouterr().err


def test_a_device_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*WORDS, "--device", "cuda", "--output-dir", str(tmp_path)]) == 2
    assert "expected a CUDA device, found none" in capsys.readouterr().err


def test_a_corpus_without_clips_that_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from helpers.tiny_families import make_family_corpus

    manifest = make_family_corpus(tmp_path / "corpus")
    config = tmp_path / "data.yaml"
    config.write_text(
        f"experiment: {{name: p}}\nmodel: {{name_or_path: x}}\ndata: {{corpus: manifest, path: {manifest}, "
        "language: en, columns: {split: split}, splits: {test: train}}\n"
    )
    words = ["profile", "--model", "config:w2v-bert-mini", "--durations", "600", "--batch-sizes", "1"]
    assert main([*words, "--data", str(config), "--output-dir", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "found none among 8 clips" in err
