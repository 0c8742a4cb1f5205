"""Rows, advice, page and comparison of a profile that was made by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.profile_rows import MACHINE, ROWS, refused, row

from hf_asr.errors import UserError
from hf_asr.profiling.compare import compare_files
from hf_asr.profiling.log import GridLog
from hf_asr.profiling.recommend import comparable, dominated, recommendations
from hf_asr.profiling.report import as_csv, page, write_report
from hf_asr.profiling.roofline import Roof, median_and_quartiles
from hf_asr.profiling.rows import FIELDS, percentiles, schema, schema_table
from hf_asr.profiling.screen import missing, table


def test_dominated_cells_are_those_another_beats_in_everything() -> None:
    assert comparable(ROWS) == ["wer", "rtfx", "forecast_bytes"]
    assert dominated(ROWS) == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("need", "rows", "words"),
    [
        ("lowest latency at 10 s", [1, 3, 3], "small, batch 1: 1.000 s"),
        ("highest throughput at 10 s", [2, 1, 3], "batch 4: RTFx 13.3"),
        ("smallest memory at 10 s", [1, 2, 3], "batch 1"),
    ],
)
def test_advice_names_the_rows_it_follows_from(need: str, rows: list[int], words: str) -> None:
    (advice,) = [advice for advice in recommendations(ROWS) if advice.need == need]
    assert advice.rows == rows
    assert words in advice.text and "Fewer errors: large" in advice.text


def test_medians_that_are_near_each_other_are_no_winner() -> None:
    advice = recommendations([row("one", 1.0), row("two", 1.05)])[0]
    assert "which is no difference" in advice.text
    assert "no difference" not in recommendations([row("one", 1.0), row("two", 1.5)])[0].text


def test_nothing_measured_gives_no_advice() -> None:
    assert recommendations([refused()]) == [] and dominated([refused()]) == [True]


def test_the_page_has_every_part_and_escapes_what_it_is_given() -> None:
    records = [
        {
            "kind": "operators",
            "key": "g",
            "cell": "small|sdpa|cpu|float32|5s|1",
            "table": {
                "groups": {"attention": 0.6, "memory": 0.4},
                "modules": [{"module": "m", "class": "C", "share": 0.5}],
            },
        },
        {
            "kind": "train",
            "key": "small|cpu",
            "loader_wait_seconds": 0.1,
            "forward_seconds": 1.0,
            "backward_seconds": 2.0,
            "optimiser_seconds": 0.2,
            "step_seconds": 3.3,
        },
    ]
    text = page(
        [*ROWS, row("<b>bold", 1.0, joules=3.0, joules_per_clip=3.0, energy_is_estimate=True)], records, MACHINE
    )
    for title in (
        "What to take",
        "All cells",
        "Trade-offs",
        "Roofline",
        "Memory",
        "Words",
        "Operators",
        "Training step",
    ):
        assert f">{title}<" in text, title
    assert "&lt;b&gt;bold" in text and "<b>bold" not in text
    assert "Estimated, not measured" in text and "oom: too big" in text
    assert "opacity" in text, "a dominated point is pale"


def operators(cell: str, **shares: dict[str, float]) -> dict[str, Any]:
    """Return a record of the operators of a cell."""
    return {"kind": "operators", "key": cell, "cell": cell, "table": {"groups": {}, "modules": [], **shares}}


def test_operators_are_told_by_cell_on_both_devices_and_why_there_are_none() -> None:
    many = {f"group {place}": 1 / (place + 10) for place in range(11)}
    records = [
        operators("small|eager|cpu|float32|5s|1", groups=many),
        operators("small|sdpa|cuda|float16|5s|1", groups=many, device_groups={"attention": 1.0}),
        {"kind": "operators", "key": "small|onnx|cpu|float32", "message": "another runtime"},
    ]
    text = page(ROWS, records, MACHINE)
    assert text.count("small, eager, 5s, ") == 8, "as many parts as the palette has colours"
    assert "small, eager, 5s, all others" in text and "group 7" not in text
    assert "on the CUDA device" in text and "small, cuda, float16, 5s, attention: 100.0 %" in text
    assert "small, onnx: another runtime." in text


def test_a_cell_that_was_not_scored_says_so() -> None:
    assert "one, 10 s: no WER: too long" in page([row("one", 1.0, message="no WER: too long")], [], MACHINE)


def test_curves_need_two_places() -> None:
    assert "Memory forecast" in page(ROWS, [], MACHINE)
    assert "Memory forecast" not in page(ROWS[:1], [], MACHINE)


def test_more_series_than_colours_are_more_charts() -> None:
    rows = [row(f"model{place}", 1.0, batch) for place in range(9) for batch in (1, 2)]
    assert page(rows, [], MACHINE).count("<span>RTFx</span>") == 2


def test_a_page_without_a_measurement_is_one() -> None:
    assert "oom: too big" in page([refused()], [], MACHINE)


def test_the_files(tmp_path: Path) -> None:
    write_report(ROWS, tmp_path, GridLog(tmp_path, {}), MACHINE)
    assert json.loads((tmp_path / "profile.json").read_text()) == ROWS
    lines = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert list(lines[0]) == list(FIELDS) and lines[0]["wer_interval"] == "[0.25, 0.35]" and lines[4]["rtfx"] == ""
    assert (tmp_path / "report.html").stat().st_size > 1000


def test_the_schema_file_is_the_fields(project_root: Path) -> None:
    file = project_root / "hf_asr" / "profiling" / "profile.schema.json"
    assert json.loads(file.read_text(encoding="utf-8")) == schema()
    assert schema_table() in (project_root / "docs" / "profiling.md").read_text(encoding="utf-8")


def test_rows_follow_the_schema() -> None:
    described = schema()["items"]
    kinds = {"string": str, "number": (int, float), "integer": int, "array": list, "object": dict, "boolean": bool}
    for made in ROWS:
        assert list(made) == described["required"]
        for name, value in made.items():
            types = described["properties"][name]["type"]
            allowed = [types] if isinstance(types, str) else types
            assert (value is None and "null" in allowed) or isinstance(value, kinds[allowed[0]]), (name, value)


def test_the_terminal_shows_why_cells_are_missing() -> None:
    assert table(ROWS).row_count == 5
    assert missing([*ROWS, {**refused(), "duration": 20.0}]) == ["big sdpa cpu, 10 s x 1, 20 s x 1: oom: too big"]


def write(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_two_profiles_are_compared_on_the_cells_they_share(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", [row("one", 1.0), row("two", 1.0), refused()])
    second = write(tmp_path / "b.json", [row("one", 2.0), row("two", 1.05)])
    told = compare_files(first, second)
    assert "latency_seconds: 1 -> 2  (2.00 x)\n" in told
    assert "latency_seconds: 1 -> 1.05  (1.05 x)  (ranges overlap: no difference shown)" in told
    assert "only in" not in told
    assert "within 10% of each other: 1 of 2 cells; of the others 0 with samples that overlap" in told
    assert told.endswith("0 that ran once, 1 changed")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"latency_range": [0.8, 1.6]}, {"latency_range": [1.2, 2.5]}, "ranges overlap"),
        ({"latency_range": [0.8, 1.6], "n": 8}, {"latency_range": [1.2, 2.5], "n": 9}, ""),
        ({"pace_seconds": 1.0}, {"pace_seconds": 2.1}, "the machine itself: 2.10 x"),
        ({"pace_seconds": 1.0}, {"pace_seconds": 1.5}, ""),  # a third of it at least is the model's
        ({"pace_seconds": 1.0}, {"pace_seconds": 0.5}, ""),
        ({"pace_seconds": None}, {"pace_seconds": 1.0}, ""),
    ],
)
def test_a_change_that_is_the_machines_is_told(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], expected: str
) -> None:
    """Latency doubles; the samples overlap, or a fixed product beside them took longer as well."""
    first = write(tmp_path / "a.json", [row("one", 1.0, **before)])
    second = write(tmp_path / "b.json", [row("one", 2.0, **after)])
    told = compare_files(first, second)
    assert f"(2.00 x)  ({expected}" in told if expected else "(2.00 x)\n" in told
    assert ("0 changed" in told) == bool(expected)


@pytest.mark.parametrize("content", ["[]", "{", '{"rows": []}', "[1]"])
def test_what_is_no_profile_is_refused(tmp_path: Path, content: str) -> None:
    other = write(tmp_path / "a.json", [row("one", 1.0)])
    (tmp_path / "b.json").write_text(content)
    with pytest.raises(UserError, match="--compare: expected"):
        compare_files(other, tmp_path / "b.json")


def test_spread() -> None:
    assert median_and_quartiles([4.0]) == (4.0, [4.0, 4.0])
    assert median_and_quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, [2.0, 4.0])
    assert percentiles([1.0, 2.0, 3.0, 4.0, 5.0])["p50"] == 3.0


def test_a_roof_is_bandwidth_then_arithmetic() -> None:
    roof = Roof(flops_per_second=100.0, bytes_per_second=10.0)
    assert (roof.ridge, roof.limit(2.0), roof.limit(50.0)) == (10.0, 20.0, 100.0)
