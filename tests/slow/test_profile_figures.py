"""The figures that `hf-asr profile` must show, in measured rows; exports of every kind; a grid that is repeated."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_speech2text import make_tiny_speech2text

from hf_asr.cli import main

pytestmark = pytest.mark.slow
QUICK = ["--batch-sizes", "1", "--device", "cpu", "--tokens", "2", "--repeats", "1", "--cell-seconds", "1"]


def profiled(folder: Path, *words: str) -> list[dict]:
    assert main(["profile", *words, *QUICK, "--no-operators", "--output-dir", str(folder)]) == 0
    return json.loads((folder / "profile.json").read_text())


@pytest.mark.parametrize(
    ("name", "duration", "encoder", "step"),
    [
        ("whisper-tiny", 30, 36.94, 0.0656),
        ("whisper-base", 30, 87.4, 0.1156),
        ("whisper-small", 30, 344, 0.3331),
        ("whisper-medium", 30, 1138, 0.9583),
        ("wav2vec2-base", 5, 71.7, None),
        ("wav2vec2-base", 15, 229.2, None),
    ],
)
def test_gflops(name: str, duration: int, encoder: float, step: float | None, tmp_path: Path) -> None:
    (row,) = profiled(tmp_path, "--model", f"config:{name}", "--durations", str(duration))
    assert row["status"] == "measured" and row["latency_seconds"] > 0
    assert row["encoder_gflops"] == pytest.approx(encoder, rel=0.01)
    assert row["encoder_gflops_counted"] == pytest.approx(encoder, rel=0.01)
    assert row["decoder_step_gflops"] == (None if step is None else pytest.approx(step, rel=0.01))


def test_a_grid_that_is_repeated_is_compared_cell_by_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many agree is the machine's affair; that each cell agrees, or says why not, is ours."""
    for name in ("first", "second"):
        profiled(tmp_path / name, "--model", "config:w2v-bert-mini", "--durations", "1,2")
    capsys.readouterr()
    files = [str(tmp_path / name / "profile.json") for name in ("first", "second")]
    assert main(["profile", "--compare", *files]) == 0
    told = capsys.readouterr().out
    assert told.count("latency_seconds: ") == 2
    counted = told.splitlines()[-1].partition("each other: ")[2]
    agreed, _, others = counted.partition(" of 2 cells")
    numbers = [int(number) for number in re.findall(r"\d+", others)]
    assert int(agreed) + sum(numbers) == 2 and len(numbers) in (0, 4), told


def test_exports_of_other_families_and_of_a_name_alone(tmp_path: Path) -> None:
    models = [
        str(make_tiny_ctc(tmp_path / "ctc", "wav2vec2")),
        str(make_tiny_speech2text(tmp_path / "s2t", max_target_positions=40)),
        "config:whisper-tiny",
    ]
    words = [word for model in models for word in ("--model", model)]
    rows = profiled(tmp_path / "out", *words, "--durations", "1", "--variants", "onnx,ctranslate2", "--language", "en")
    found = {(row["model"], row["variant"]): row for row in rows}
    for model in models:
        assert found[model, "onnx"]["status"] == "measured", found[model, "onnx"]["message"]
        assert found[model, "ctranslate2"]["status"] == "not_available"
    assert "give --tokenizer" in found["config:whisper-tiny", "ctranslate2"]["message"]
    assert "expected a Whisper that writes text" in found[models[0], "ctranslate2"]["message"]
