"""The command line of benchmarks/run.py, its medians and its file."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run() -> Any:
    return importlib.import_module("run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "prepar"], "found prepar; did you mean prepare?"),
        (["--only", "xyz"], "expected one of train_full, .* found xyz"),
        (["--only", "prepare", "--size", "small"], "expected one of train_full, train_clip, train_pack beside --size"),
        (["--rounds", "0"], "--rounds: expected 1 or more, found 0"),
        (["--threads", "0"], "--threads: expected 1 or more, found 0"),
        (["--output", "nowhere/rows.json"], "--output: expected a JSON list .* found no folder nowhere"),
        (["--output", __file__], "--output: expected a JSON list .* found .*test_run.py: "),
    ],
)
def test_what_cannot_be_measured(run: Any, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    with pytest.raises(SystemExit) as stopped:
        run.parse(words)
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_sides_take_turns_and_the_median_counts() -> None:
    setting = importlib.import_module("setting")
    asked: list[str] = []
    costs = iter([4.0, 1.0, 3.0, 8.0, 6.0, 2.0])

    def side(name: str) -> Any:
        def cost() -> float:
            asked.append(name)
            return next(costs)

        return cost

    found = setting.alternate({"stock": side("stock"), "ours": side("ours")}, 3)
    assert asked == ["stock", "ours", "ours", "stock", "stock", "ours"]
    assert found == {"stock": [4.0, 8.0, 6.0], "ours": [1.0, 3.0, 2.0]}
    measured = setting.Measured(found, "s")
    assert measured.ratio("ours") == 3.0 and measured.median("stock") == 6.0


def test_cpu_time_counts_work_and_not_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = importlib.import_module("setting")
    found = {}
    for clock in ("wall", "cpu"):
        monkeypatch.setenv(setting.CLOCK, clock)
        start = setting.clock()
        time.sleep(0.3)
        found[clock] = setting.clock() - start
    assert found["wall"] >= 0.3 > 0.1 > found["cpu"] >= 0


@pytest.mark.parametrize("unit", ["seconds a clip", "share of padded seconds", "MB"])
def test_a_unit_of_time_names_its_clock(unit: str, micro: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = importlib.import_module("setting")
    monkeypatch.setenv(setting.CLOCK, "cpu")
    row = setting.Measured({"ours": [1.0]}, unit).row("x", micro)
    assert row["unit"] == ("CPU seconds a clip" if unit == "seconds a clip" else unit)
    assert row["hardware"]["clock"] == "CPU time" and row["ratio"] is None


def test_the_command_of_a_row_is_the_whole_one(run: Any) -> None:
    options = run.parse(["--rounds", "3", "--clock", "cpu", "--threads", "1"])
    assert run.command("prepare", options).endswith("run.py --only prepare --rounds 3 --clock cpu --threads 1")
    assert run.command("prepare", run.parse([])).endswith("run.py --only prepare --rounds 5")


def row_of(name: str, ratio: float, device: str = "CPU, x86_64") -> dict[str, Any]:
    return {"name": name, "ratio": ratio, "hardware": {"device": device}}


def test_a_row_measured_again_replaces_its_namesake_of_that_device(run: Any, tmp_path: Path) -> None:
    output = tmp_path / "rows.json"
    run.put([row_of("a", 1), row_of("b", 2)], output, "first")
    run.put([row_of("a", 9, "NVIDIA H200")], output, "on a GPU")
    run.put([row_of("a", 3)], output, "again")
    rows = [(row["name"], row["ratio"], row["command"]) for row in json.loads(output.read_text())]
    assert rows == [("b", 2, "first"), ("a", 9, "on a GPU"), ("a", 3, "again")]


@pytest.mark.parametrize(
    ("row", "bar", "below"),
    [
        ({"ours": 1.0, "ratio": 4.9}, 5.0, True),
        ({"ours": 1.0, "ratio": 5.0}, 5.0, False),
        ({"ours": 0.09, "ratio": None}, 0.08, True),
        ({"ours": 0.05, "ratio": None}, 0.08, False),
        ({"ours": 1.0, "ratio": 0.1}, None, False),
    ],
)
def test_bars(run: Any, row: dict[str, Any], bar: float | None, below: bool) -> None:
    assert run.below(row, bar) is below


def test_a_folder_of_speech_that_is_none(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gigaspeech_layout").mkdir()
    monkeypatch.setenv("HF_ASR_SHARED_DATA", str(tmp_path))
    monkeypatch.setenv("HF_ASR_BENCHMARK_CLOCK", "wall")
    monkeypatch.setattr("sys.argv", ["run.py", "--only", "padding"])
    assert run.main() == 2
    assert "HF_ASR_SHARED_DATA: expected a folder with" in capsys.readouterr().err


def test_every_row_is_there(run: Any) -> None:
    for name, (module, _) in run.ROWS.items():
        assert callable(getattr(importlib.import_module(module), name))


def test_the_two_sides_learn_the_same_labels(micro: Any) -> None:
    ours, stock = importlib.import_module("ours"), importlib.import_module("stock")
    model, processor = stock.load(micro.checkpoint)
    table = stock.prepare(micro.speech.rows()[:2], processor, micro.folder / "stock.arrow")
    collate = stock.DataCollatorSpeechSeq2SeqWithPadding(processor, model.config.decoder_start_token_id)
    theirs = collate([table[0]])["labels"]
    encoder = ours.load_encoder(ours.configuration(micro))
    text = str(micro.speech.rows()[0]["text"])
    said = encoder.labeller.encode(text)
    # Ours begin with the space that Whisper writes before its first word.
    assert said[:3] == theirs[0, :3].tolist() and said[-1] == theirs[0, -1].item()
    assert len(said) == theirs.shape[1] + 1 - (0 if processor.tokenizer.vocab_size < 1000 else 1)
