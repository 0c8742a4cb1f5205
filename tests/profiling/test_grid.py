"""The grid: each cell measured or told why not, order alternated, gone on with where it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_ctc import make_tiny_ctc
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.errors import UserError
from hf_asr.profiling import grid as grid_module
from hf_asr.profiling.clips import ProfileClip, noise_clips
from hf_asr.profiling.facts import FactsOfGroup
from hf_asr.profiling.grid import Grid, GridSettings
from hf_asr.profiling.log import Cell, GridLog, Group
from hf_asr.profiling.meter import NoMeter
from hf_asr.profiling.rows import FIELDS, NAMES, Row, build_rows
from hf_asr.profiling.runners import Stopwatch
from hf_asr.profiling.subject import Subject, find_subject

SETTINGS = GridSettings([1.0, 3.0], [1, 2], ["cpu"], ["float32"], ["sdpa"], tokens=3, repeats=2, operators=False)


@pytest.fixture(autouse=True)
def quicker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take two samples of batch 1, where a test does not look at its percentiles, and sweep no memory."""
    if "percentiles" not in request.node.name:
        monkeypatch.setattr(grid_module, "MORE_OF_ONE", 1)
    # Between models, a quarter of a second each: tiny ones may stay.
    monkeypatch.setattr(grid_module.gc, "collect", int)


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """A tiny Whisper with a window of 2 s, and a tiny wav2vec2."""
    folder = tmp_path_factory.mktemp("models")
    whisper = find_subject(str(make_tiny_whisper(folder / "whisper", chunk_length=2)), language="en")
    return {"whisper": whisper, "ctc": find_subject(str(make_tiny_ctc(folder / "ctc", "wav2vec2")))}


def make_grid(folder: Path, subjects: dict[str, Subject], settings: GridSettings = SETTINGS, **more: Any) -> Grid:
    clips = {duration: noise_clips(duration, 3, 0) for duration in settings.durations} | more.pop("clips", {})
    return Grid(settings, subjects, clips, {"cpu": NoMeter()}, GridLog(folder, {"tokens": 3}), **more)


def rows_of(grid: Grid) -> list[Row]:
    cells = [cell for group in grid.groups() for cell in grid.cells(group)]
    machine = {"threads": 1, "tokens": 3, "cpu": "a processor"}
    return build_rows(grid.log, cells, machine=machine, meters=grid.meters, roofs={}, grams_per_kwh=None)


class Scripted:
    """A runner that notes its batches and takes no time, or fails."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.sizes: list[tuple[float, int]] = []
        self.fail_at, self.error = fail_at, error or RuntimeError("no kernel for this shape")

    def __call__(self, clips: Sequence[np.ndarray], tokens: int, watch: Stopwatch) -> list[list[int]]:
        if self.fail_at == len(clips):
            raise self.error
        self.sizes.append((len(clips[0]) / 16_000, len(clips)))
        watch.lap("whole")
        return [[0] * tokens for _ in clips]

    def write(self, clips: Sequence[ProfileClip]) -> list[str]:
        return ["one word" for _ in clips]

    def modules(self) -> None:
        return None


KNOWN: dict[tuple[object, ...], FactsOfGroup] = {}


def facts_of(group: Group, subject: Subject, tokens: int, limit: int | None, known: Any) -> FactsOfGroup:
    """Return a group's facts, worked out once for all tests: half a second for each shape."""
    return KNOWN.setdefault((group, subject.name, tokens, limit), FactsOfGroup(group, subject, tokens, limit))


def scripted(monkeypatch: pytest.MonkeyPatch, runner: Scripted) -> Scripted:
    monkeypatch.setattr(grid_module, "make_runner", lambda *args: runner)
    monkeypatch.setattr(grid_module, "FactsOfGroup", facts_of)
    return runner


def test_every_cell_has_its_row(tmp_path: Path, subjects: dict[str, Subject]) -> None:
    grid = make_grid(tmp_path, subjects)
    grid.run()
    rows = rows_of(grid)
    assert [row["status"] for row in rows] == ["measured"] * 8
    assert all(list(row) == list(FIELDS) for row in rows)
    assert all(row[name] is not None for row in rows for name in NAMES)
    whisper = [row for row in rows if row["model"] == "whisper"]
    assert [(row["duration"], row["batch_size"]) for row in whisper] == [(1.0, 1), (1.0, 2), (3.0, 1), (3.0, 2)]
    assert [row["windows"] for row in whisper] == [1, 1, 2, 2]
    assert "transcribe" in whisper[-1]["long_form"] and whisper[0]["long_form"] is None
    assert whisper[2]["encoder_gflops"] == 2 * whisper[0]["encoder_gflops"]
    assert all(
        row["rtfx"] == pytest.approx(row["batch_size"] * row["duration"] / row["latency_seconds"]) for row in rows
    )
    assert [row["scaling_factor"] for row in whisper][::2] == [1.0, 1.0]
    assert all(row["decoder_step_gflops"] is None and row["per_token_seconds"] is None for row in rows[4:])


def test_samples_are_alternated(tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    runner = scripted(monkeypatch, Scripted())
    make_grid(tmp_path, {"ctc": subjects["ctc"]}, replace(SETTINGS, batch_sizes=[2])).run()
    measured = runner.sizes[4:]  # two warm-ups of each cell went before
    assert measured == [(1.0, 2), (3.0, 2), (3.0, 2), (1.0, 2)]


def test_batch_1_has_percentiles(tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, Scripted())
    grid = make_grid(tmp_path, {"ctc": subjects["ctc"]}, replace(SETTINGS, durations=[1.0]))
    grid.run()
    single, double = rows_of(grid)
    assert (single["n"], double["n"]) == (8, 2)
    assert list(single["latency_percentiles"]) == ["p50", "p90", "p95", "p99"] and double["latency_percentiles"] is None


def test_a_long_cell_runs_once(tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "ONCE_ABOVE", 0.0)
    runner = scripted(monkeypatch, Scripted())
    grid = make_grid(tmp_path, {"ctc": subjects["ctc"]}, replace(SETTINGS, durations=[1.0]))
    grid.run()
    assert [row["n"] for row in rows_of(grid)] == [1, 1]
    assert Counter(size for _, size in runner.sizes) == {1: 3, 2: 3}


def test_when_the_minutes_are_over_no_cell_has_a_second_sample(
    tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, Scripted())
    settings = replace(SETTINGS, batch_sizes=[2, 3], repeats=3)
    slow = make_grid(tmp_path / "slow", {"ctc": subjects["ctc"]}, replace(settings, minutes=1e-9))
    quick = make_grid(tmp_path / "quick", {"ctc": subjects["ctc"]}, replace(settings, minutes=60.0))
    for grid, number in ((slow, 1), (quick, 3)):
        grid.run()
        assert [row["n"] for row in rows_of(grid)] == [number] * 4
    again = scripted(monkeypatch, Scripted())
    make_grid(tmp_path / "slow", {"ctc": subjects["ctc"]}, settings).run()
    assert again.sizes == [], "the grid is finished"


def test_an_interrupted_grid_goes_on(
    tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, batch_sizes=[2, 3], repeats=3)
    only = {"ctc": subjects["ctc"]}
    whole = make_grid(tmp_path / "whole", only, settings)
    scripted(monkeypatch, Scripted())
    whole.run()
    broken = make_grid(tmp_path / "broken", only, settings)
    runner = scripted(monkeypatch, Scripted())
    monkeypatch.setattr(broken, "_failed", lambda cell: _interrupt_after(runner, 12))
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    before = len(broken.log.records)
    again = make_grid(tmp_path / "broken", only, settings)
    assert len(again.log.records) == before
    scripted(monkeypatch, Scripted())
    again.run()
    kept = [(record["key"], record["repeat"]) for record in again.log.records if record["kind"] == "sample"]
    wanted = [(record["key"], record["repeat"]) for record in whole.log.records if record["kind"] == "sample"]
    assert sorted(kept) == sorted(wanted)
    unused = scripted(monkeypatch, Scripted())
    make_grid(tmp_path / "broken", only, settings).run()
    assert unused.sizes == [], "a finished grid measures nothing again"


def _interrupt_after(runner: Scripted, runs: int) -> bool:
    if len(runner.sizes) >= runs:
        raise KeyboardInterrupt
    return False


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    log = GridLog(tmp_path, {"tokens": 3})
    log.append("plan", "cell", number=2)
    with log.path.open("a") as file:
        file.write('{"kind": "sample", "ke')
    again = GridLog(tmp_path, {"tokens": 3})
    assert [record["kind"] for record in again.records] == ["settings", "plan"]
    again.append("sample", "cell", repeat=0)
    assert len(GridLog(tmp_path, {"tokens": 3}).of("sample", "cell")) == 1


def test_other_settings_do_not_mix(tmp_path: Path) -> None:
    GridLog(tmp_path, {"tokens": 3})
    with pytest.raises(UserError, match="tokens 3 there, 4 now"):
        GridLog(tmp_path, {"tokens": 4})


def status_of(grid: Grid) -> dict[tuple[float, int], tuple[str, str]]:
    grid.run()
    return {(row["duration"], row["batch_size"]): (row["status"], row["message"] or "") for row in rows_of(grid)}


def test_what_does_not_fit_is_told_and_not_run(
    tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = scripted(monkeypatch, Scripted())
    settings = replace(SETTINGS, batch_sizes=[1, 64], memory_limit=2**20)
    found = status_of(make_grid(tmp_path, {"ctc": subjects["ctc"]}, settings))
    assert found[1.0, 1][0] == "measured"
    status, message = found[3.0, 64]
    assert status == "oom" and "the largest batch that fits is" in message
    assert all(size == 1 for _, size in runner.sizes)


def test_out_of_memory_while_running_is_a_row(
    tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, Scripted(fail_at=2, error=RuntimeError("DefaultCPUAllocator: can't allocate memory")))
    found = status_of(make_grid(tmp_path, {"ctc": subjects["ctc"]}))
    assert {key: status for key, (status, _) in found.items()} == {
        (1.0, 1): "measured",
        (1.0, 2): "oom",
        (3.0, 1): "measured",
        (3.0, 2): "oom",
    }


def test_a_fault_ends_its_cell_alone(
    tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, Scripted(fail_at=1))
    found = status_of(make_grid(tmp_path, {"ctc": subjects["ctc"]}))
    assert found[1.0, 1] == ("failed", "RuntimeError: no kernel for this shape")
    assert found[3.0, 2][0] == "measured"


def test_a_variant_that_cannot_be_had_is_a_row(tmp_path: Path, subjects: dict[str, Subject]) -> None:
    settings = replace(SETTINGS, durations=[1.0], batch_sizes=[1], variants=["sdpa", "cuda_graphs", "bf16"])
    grid = make_grid(tmp_path, {"whisper": subjects["whisper"]}, settings)
    grid.run()
    assert [(row["variant"], row["dtype"], row["status"]) for row in rows_of(grid)] == [
        ("sdpa", "float32", "measured"),
        ("cuda_graphs", "float32", "not_available"),
        ("bf16", "bfloat16", "measured"),
    ]


def test_durations_without_clips_and_beyond_a_family(
    tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, Scripted())
    monkeypatch.setattr("hf_asr.profiling.subject.LONGEST", {"ctc": 2.0})
    settings = replace(SETTINGS, durations=[1.0, 1.5, 3.0], batch_sizes=[1])
    found = status_of(make_grid(tmp_path, {"ctc": subjects["ctc"]}, settings, clips={1.5: "no clips that long"}))
    assert found[1.0, 1][0] == "measured"
    assert found[1.5, 1] == ("not_available", "no clips that long")
    assert found[3.0, 1] == ("not_available", "a ctc model takes clips of 2 s at most, not of 3 s")


def test_words_are_scored_once_a_length(
    tmp_path: Path, subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, Scripted())
    clips = {1.0: [replace(clip, text="one word more") for clip in noise_clips(1.0, 2, 0)]}
    settings = replace(SETTINGS, durations=[1.0])
    grid = make_grid(tmp_path, {"ctc": subjects["ctc"]}, settings, clips=clips, scored=True)
    grid.run()
    rows = rows_of(grid)
    assert [row["wer"] for row in rows] == [pytest.approx(1 / 3)] * 2
    assert rows[0]["wer_interval"] == [pytest.approx(1 / 3)] * 2 and rows[0]["normalizer"] == "basic"
    assert len([record for record in grid.log.records if record["kind"] == "quality"]) == 1


def test_operators_are_profiled_once_a_model(tmp_path: Path, subjects: dict[str, Subject]) -> None:
    settings = replace(SETTINGS, durations=[1.0], operators=True)
    grid = make_grid(tmp_path, {"whisper": subjects["whisper"]}, settings, trace=tmp_path / "traces")
    grid.run()
    told = [row["operators"] for row in rows_of(grid) if row["operators"]]
    assert len(told) == 1 and sum(told[0].values()) == pytest.approx(1)
    assert len(list((tmp_path / "traces").glob("*.json"))) == 1


def test_a_thinned_window_costs_its_own_positions(subjects: dict[str, Subject]) -> None:
    full, thin = (
        FactsOfGroup(Group("whisper", variant, "cpu", "float32"), subjects["whisper"], 3).flops(1.0)[0]
        for variant in ("sdpa", "thinned")
    )
    assert full.states == 100 > thin.states >= 75, "1 s, the half second that is kept, and a tail; in eights"
    assert thin.encoder < full.encoder
    assert thin.decoder_step < full.decoder_step


def test_keys_name_everything() -> None:
    cell = Cell(Group("config:x", "sdpa", "cpu", "float32"), 5.0, 2)
    assert cell.key == "config:x|sdpa|cpu|float32|5s|2"
