"""Rows, advice, page and comparison of a profile that was made by hand."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from hf_asr.errors import UserError
from hf_asr.profiling.compare import compare_files
from hf_asr.profiling.log import GridLog
from hf_asr.profiling.recommend import comparable, dominated, recommendations
from hf_asr.profiling.report import as_csv, page, write_report
from hf_asr.profiling.roofline import Roof, median_and_quartiles
from hf_asr.profiling.rows import FIELDS, NAMES, Row, percentiles, schema, schema_table
from hf_asr.profiling.screen import missing, table

MACHINE = {"threads": 2, "tokens": 32, "torch": "2", "cpu": "a <processor>"}


def row(model: str, latency: float, batch_size: int = 1, **more: Any) -> Row:
    """Return a measured row of clips of 10 s."""
    made: Row = dict.fromkeys(FIELDS)
    made |= {"model": model, "duration": 10.0, "batch_size": batch_size, "device": "cpu", "dtype": "float32"}
    made |= {"variant": "sdpa", "status": "measured", "n": 5, "latency_seconds": latency, "windows": 1}
    made |= {"latency_quartiles": [0.9 * latency, 1.1 * latency], "rtfx": 10 * batch_size / latency}
    made |= {"samples_per_second": batch_size / latency, "scaling_factor": 1.0, "encoder_seconds": latency / 2}
    made |= {"forecast_bytes": 2**20 * batch_size, "encoder_gflops": 5.0, "encoder_intensity": 30.0}
    made |= {"roof_flops_per_second": 5e10, "roof_bytes_per_second": 1e10, "encoder_flops_per_second": 2e10}
    return made | {"device_name": "a <processor>", "energy_source": "none: nothing counts", **more}


def refused(status: str = "oom") -> Row:
    """Return a row without a measurement."""
    made: Row = dict.fromkeys(FIELDS)
    return made | {**{name: row("big", 1.0)[name] for name in NAMES}, "status": status, "message": "too big", "n": 0}


ROWS = [
    row("small", 1.0, wer=0.30, wer_interval=[0.25, 0.35], forecast_bytes=100, cer=0.1, cer_interval=[0.05, 0.2]),
    row("small", 3.0, 4, wer=0.30, wer_interval=[0.25, 0.35], forecast_bytes=300, cer=0.1, cer_interval=[0.05, 0.2]),
    row("large", 2.0, wer=0.10, wer_interval=[0.08, 0.12], forecast_bytes=900, cer=0.1, cer_interval=[0.05, 0.2]),
    row("worse", 2.5, wer=0.31, wer_interval=[0.25, 0.35], forecast_bytes=901, cer=0.1, cer_interval=[0.05, 0.2]),
    refused(),
]


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
            "cell": "small|sdpa",
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
    assert "latency_seconds: 1 -> 1.05  (1.05 x)  (quartiles overlap: no difference shown)" in told
    assert "only in" not in told
    agreed = "median latencies within 10% of each other: 1 of 2 cells; of the others 0 with quartiles that overlap"
    assert agreed in told and "0 that ran once" in told


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
