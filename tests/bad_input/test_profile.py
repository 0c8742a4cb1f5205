"""What `hf-asr profile` says to what it cannot do: one message, exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hf_asr.cli import main, profile_run
from hf_asr.profiling import meter

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
    (["--durations", "nan"], "expected seconds above 0, found nan"),
    (["--durations", ","], "--durations: expected numbers such as 5,15, found none"),
    (["--cell-seconds", "0"], "--cell-seconds: expected a number above 0, found 0"),
    (["--memory-limit", "-3"], "--memory-limit: expected a number above 0, found -3"),
    (["--model", "./nothing"], "expected a folder, a Hub id or config:NAME, found ./nothing"),
    (["--model", "tests"], "found tests without a config.json"),
    (["--model", "config:whisper-huge"], "expected one of config:whisper-tiny"),
    (["--model", "config:wav2vec2-base", "--tokenizer", "nothing"], "--tokenizer nothing: "),
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


# Loading torch and transformers takes ten seconds of a slow machine: who mistyped a name is told before.
WITHOUT_TORCH = """
import sys
from hf_asr.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules and "transformers" not in sys.modules
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "no/such-model"], "found no folder no/such-model, and the Hub is switched off"),
        (["--device", "tpu"], "--device: expected cpu, cuda, found tpu"),
    ],
    ids=["model", "device"],
)
def test_a_mistyped_name_is_told_before_anything_heavy(words: list[str], message: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", WITHOUT_TORCH, *WORDS, *words, "--output-dir", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not out.exists()


def test_a_counter_that_cannot_be_read_is_a_line_and_the_grid_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir(parents=True)  # root may read every file, but no folder as one
    monkeypatch.setattr(profile_run, "POWERCAP", tmp_path)
    monkeypatch.setattr(meter, "POWERCAP", tmp_path)
    words = [*WORDS, "--memory-limit", "0.0001", "--output-dir", str(tmp_path / "out")]
    assert main(words) == 1, "nothing was measured, as nothing fits"
    told = capsys.readouterr().err
    assert told.count("RAPL: expected a number in") == 1 and "energy of cpu: none" in told
    (row,) = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert row["status"] == "oom" and row["joules"] is None


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
