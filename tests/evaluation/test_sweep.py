"""Decoding knobs: how they are read, what the table says, which row is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.scored_run import write_scored

from hf_asr.errors import UserError
from hf_asr.evaluation.report import read_results
from hf_asr.evaluation.sweep import Knob, grid, overrides, read_knobs, row_name, summarize_sweep


def test_knobs_make_a_grid() -> None:
    knobs = read_knobs(["num_beams=1,5", "evaluation.generation.repetition_penalty=1.0, 1.1", "ctc.beam=4"])
    assert [knob.key for knob in knobs][2] == "ctc.beam"
    rows = grid(knobs)
    assert len(rows) == 4 and rows[1] == {"num_beams": 1, "repetition_penalty": 1.1, "ctc.beam": 4}
    assert overrides(knobs, rows[0])[:2] == [
        "evaluation.generation.num_beams=1",
        "evaluation.generation.repetition_penalty=1.0",
    ]
    assert row_name(rows[1]) == "num_beams=1,repetition_penalty=1.1,ctc.beam=4"


def test_lists_are_values_too() -> None:
    (knob,) = read_knobs(["suppress_tokens=[1, 2],[]"])
    assert knob == Knob("suppress_tokens", ([1, 2], []))
    names = [row_name(row) for row in grid([knob])]
    assert len(set(names)) == 2 and not any(set("[]/ ") & set(name) for name in names)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["num_beams"], "expected NAME=VALUE"),
        (["num_beams="], "expected NAME=VALUE"),
        (["num_beams=1,1"], "expected values that differ"),
        (["num_beams=1,,2"], "--sweep num_beams: expected"),
        (["num_beams=1", "num_beams=2"], "expected each knob once, found num_beams again"),
        (["data.language=ru,en"], "expected a name of GenerationConfig or one of ctc.beam"),
        (["ctc.vocabulary=a,b"], "found 'ctc.vocabulary'"),
        (["a=" + ",".join(map(str, range(20))), "b=" + ",".join(map(str, range(20)))], "found a grid of 400"),
        (["num_beams=[1"], "expected values with commas"),
    ],
)
def test_knobs_that_are_none(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        read_knobs(texts)


def test_the_best_and_the_fastest_as_good_are_named(tmp_path: Path) -> None:
    knobs = [Knob("num_beams", (1, 2, 5))]
    truth = [f"word{index} and more" for index in range(30)]
    slightly = [*truth[:29], "word29 and mere"]
    said = {1: ["nothing"] * 30, 2: slightly, 5: truth}
    results = []
    for row, texts in zip(grid(knobs), said.values(), strict=True):
        folder = write_scored(tmp_path / "sweep" / row_name(row), truth, texts, speakers=[str(i) for i in range(30)])
        results.append(read_results(folder) | {"rtfx": {1: 30.0, 2: 20.0, 5: 10.0}[row["num_beams"]]})
    found = summarize_sweep(tmp_path, knobs, results, rate="wer", split="validation")
    assert found["best"] == {"num_beams": 5} and found["fastest_as_good"] == {"num_beams": 2}
    worst, near, best = found["rows"]
    assert worst["difference_to_best"]["significant"] and not near["difference_to_best"]["significant"]
    assert best["difference_to_best"] is None
    table = (tmp_path / "sweep.md").read_text()
    assert "| 5 | 0.00 [0.00, 0.00] | best | 10.0 | 0 | 0 | 0 |" in table
    assert "Best on validation (30 clips, normalizer basic): num_beams=5. Fastest" in table
