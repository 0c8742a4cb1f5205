"""`hf-asr profile` from its options to its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_families import make_family_corpus
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.cli import main
from hf_asr.profiling.rows import FIELDS


@pytest.fixture(autouse=True)
def without_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no roof: a second of matrix products."""
    from hf_asr.profiling import roofline

    monkeypatch.setattr(roofline, "SIDE", {"cpu": 32})
    monkeypatch.setattr(roofline, "COPIED", {"cpu": 2**10})


def test_two_checkpoints_on_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make_family_corpus(tmp_path / "corpus")
    config = tmp_path / "data.yaml"
    config.write_text(
        f"experiment: {{name: p}}\nmodel: {{name_or_path: x}}\ndata: {{corpus: manifest, path: {manifest}, "
        "language: en, columns: {split: split}, splits: {test: train}}\n"
    )
    whisper = make_tiny_whisper(tmp_path / "whisper", chunk_length=2)
    ctc = make_tiny_ctc(tmp_path / "ctc", "wav2vec2")
    words = ["profile", "--model", str(whisper), "--model", str(ctc), "--data", str(config), "--durations", "1,2"]
    words += ["--batch-sizes", "1", "--repeats", "1", "--tokens", "3", "--clips", "2", "--cell-seconds", "0.01"]
    words += ["--variants", "sdpa,static_cache", "--train", "--no-operators", "--output-dir", str(tmp_path / "out")]
    assert main(words) == 0
    rows = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert [row["status"] for row in rows] == ["measured"] * 6 + ["not_available"] * 2
    assert all(list(row) == list(FIELDS) for row in rows)
    measured = rows[:6]
    assert all(row["wer"] >= 0 and row["wer_clips"] == 2 and row["wer_interval"] for row in measured)
    assert all(row["roof_flops_per_second"] > 0 and row["encoder_intensity"] > 0 for row in measured)
    printed = capsys.readouterr()
    assert "profile.json, profile.csv, report.html" in printed.out and "threads" in printed.err
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    steps = [record for record in samples if record["kind"] == "train"]
    assert len(steps) == 2 and all(record["step_seconds"] > 0 for record in steps)
    assert main(words) == 0
    again = (tmp_path / "out" / "samples.jsonl").read_text().splitlines()
    assert len(again) == len(samples), "a finished profile measures nothing again"
    one = str(tmp_path / "out" / "profile.json")
    assert main(["profile", "--compare", one, one]) == 0
    assert "(1.00 x)" in capsys.readouterr().out


def test_a_name_alone_is_enough(tmp_path: Path) -> None:
    words = ["profile", "--model", "config:w2v-bert-mini", "--durations", "1", "--batch-sizes", "1,2", "--repeats", "1"]
    words += ["--cell-seconds", "0.01", "--minutes", "30", "--output-dir", str(tmp_path)]
    assert main(words) == 0
    single, double = json.loads((tmp_path / "profile.json").read_text())
    assert single["gflops_from"] == "counted" and single["encoder_gflops"] > 0 and single["wer"] is None
    assert sum(single["operators"].values()) == pytest.approx(1) and not double["operators"]
    assert "30, then no second sample" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert double["batch_size"] == 2 and double["activation_bytes"] == 2 * single["activation_bytes"]


def test_nothing_measured_is_a_finding(tmp_path: Path) -> None:
    words = ["profile", "--model", "config:w2v-bert-mini", "--durations", "1", "--batch-sizes", "1"]
    assert main([*words, "--memory-limit", "0.0001", "--output-dir", str(tmp_path)]) == 1
    (row,) = json.loads((tmp_path / "profile.json").read_text())
    assert row["status"] == "oom" and row["largest_batch"] == 0


def test_the_figures_of_a_whisper_through_the_command(tmp_path: Path) -> None:
    """Nothing runs: a cell that does not fit is told its FLOPs too. As measured rows: tests/slow."""
    words = ["profile", "--model", "config:whisper-tiny", "--durations", "30", "--batch-sizes", "1"]
    assert main([*words, "--device", "cpu", "--memory-limit", "0.01", "--output-dir", str(tmp_path)]) == 1
    (row,) = json.loads((tmp_path / "profile.json").read_text())
    assert row["encoder_gflops"] == pytest.approx(36.94, rel=0.01)
    assert row["decoder_step_gflops"] == pytest.approx(0.0656, rel=0.01)
