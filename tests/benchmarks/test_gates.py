"""The gates' program: on a tiny model whole, and its arithmetic on numbers made for it."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers.tiny_corpus import make_tiny_corpus
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.evaluation.report import COLUMNS

SECONDS = 26


@pytest.fixture
def gates(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))
    return importlib.import_module("gates")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of four speakers, of one to two seconds, and a model of one layer with a window of 26 s."""
    folder = tmp_path_factory.mktemp("gates")
    model = make_tiny_whisper(folder / "model", chunk_length=SECONDS)
    manifest = make_tiny_corpus(folder / "corpus", train=0, validation=0, test=30)
    lines = manifest.read_text().splitlines()
    kept = [line for place, line in enumerate(lines[1:]) if place % 9 >= 5]
    kept = [line.replace("test-speaker", f"speaker{place % 2}") for place, line in enumerate(kept)]
    manifest.write_text("\n".join([lines[0], *kept]) + "\n")
    sections = {
        "experiment": {"name": "gates"},
        "model": {"name_or_path": str(model)},
        "data": {
            "corpus": "manifest",
            "path": str(manifest),
            "language": "en",
            "splits": {"test": "test"},
            "columns": {"split": "split"},
        },
    }
    (folder / "gates.yaml").write_text(json.dumps(sections))
    return folder / "gates.yaml"


def run_a(gates: ModuleType, config: Path, output: Path, *words: str) -> dict[str, Any]:
    given = ["a", "--config", str(config), "--output", str(output), "--max-new-tokens", "4", *words]
    code = gates.main(given)
    found: dict[str, Any] = json.loads((output / "gate_a.json").read_text())
    assert code == (0 if found["confirmed"] else 1)
    return found


def test_gate_a_measures_once_and_goes_on(
    gates: ModuleType, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_a(gates, config, tmp_path, "--strides", "1", "--keeps", "0.5", "--conditions", "clean,noisy,long")
    names = {(row["condition"], row["setting"]) for row in first["rows"]}
    assert names == {
        (condition, name) for condition in ("clean", "noisy", "long") for name in ("floor", "thinned 0.5/1/10")
    }
    for row in first["rows"]:
        if row["setting"] == "thinned 0.5/1/10":  # every position kept: the full window
            assert row["nll"]["high"] == pytest.approx(0, abs=1e-4) and row["wer"]["high"] == row["wer"]["low"] == 0
            assert row["same_text"] == 1 and row["states"] == SECONDS * 50 and row["passes"]
    assert {row["half"] for row in first["rows"]} == {"choose", "confirm", "both"}
    assert {"all", "slow", "fast", "1 to 5 s"} <= {row["part"] for row in first["rows"]}
    assert first["chosen"] == "thinned 0.5/1/10" and first["confirmed"] and not first["enough_clips"]
    assert "chosen: thinned 0.5/1/10; on the other half it passes" in capsys.readouterr().out
    # A line that a kill cut off is measured again, all others are kept.
    full, thinned = tmp_path / "clean" / "full.jsonl", tmp_path / "clean" / "thinned-0.5-1-10.jsonl"
    before, time = full.read_text(), thinned.stat().st_mtime_ns
    full.write_text(before[:-20])
    more = run_a(gates, config, tmp_path, "--strides", "1,20", "--keeps", "0.5", "--conditions", "clean")
    assert sorted(full.read_text().splitlines()) == sorted(before.splitlines())
    assert thinned.stat().st_mtime_ns == time
    fewer = [row for row in more["rows"] if row["setting"] == "thinned 0.5/20/10"]
    assert fewer and all(row["states"] < 250 for row in fewer)
    assert gates.main(["a", "--config", str(config), "--output", str(tmp_path), "--limit", "3"]) == 2
    assert "--output: expected what" in capsys.readouterr().err


def row_of(setting: str, half: str, states: float, passed: bool) -> dict[str, Any]:
    return {"condition": "clean", "part": "all", "half": half, "setting": setting, "states": states, "clips": 600} | {
        "passes": passed
    }


@pytest.mark.parametrize(
    ("choose", "confirm", "expected"),
    [
        ({"thinned 0.5/10": True, "thinned 0.5/20": True}, {"thinned 0.5/20": True}, ("thinned 0.5/20", True)),
        ({"thinned 0.5/10": True, "thinned 0.5/20": True}, {"thinned 0.5/20": False}, ("thinned 0.5/20", False)),
        ({"thinned 0.5/10": True, "thinned 0.5/20": False}, {"thinned 0.5/20": True}, ("thinned 0.5/10", True)),
        ({"thinned 0.5/10": False, "thinned 0.5/20": False}, {}, (None, False)),
    ],
)
def test_the_thinnest_that_passes_is_chosen_and_confirmed_apart(
    gates: ModuleType, choose: dict[str, bool], confirm: dict[str, bool], expected: tuple[str | None, bool]
) -> None:
    states = {"thinned 0.5/10": 346.0, "thinned 0.5/20": 282.0, "floor": 1500.0}
    rows = []
    for name, size in states.items():
        rows += [row_of(name, "choose", size, choose.get(name, True)), row_of(name, "both", size, True)]
        rows.append(row_of(name, "confirm", size, confirm.get(name, True)))
    found = gates.verdict_a(rows)
    assert (found["chosen"], found["confirmed"]) == expected and found["enough_clips"]


def test_gate_a_tells_a_loop_apart(gates: ModuleType) -> None:
    """Four clips of two words; one loops for fifty words: fifty errors, two where it is at most all wrong."""
    clips = [gates_clip(place) for place in range(4)]
    full = {clip.id: {"hypothesis": clip.text, "nll": 1.0, "tokens": 3, "positions": 9} for clip in clips}
    other = {**full, "0": full["0"] | {"hypothesis": " ".join(["word"] * 50)}}
    found = gates.compared(clips, full, other, "none")
    assert found["wer"]["difference"] == pytest.approx(50 / 8)
    assert found["wer_without_loops"]["difference"] == pytest.approx(2 / 8)
    assert not gates.passes(found)  # what decides is the rate with the loop


def gates_clip(place: int) -> Any:
    return importlib.import_module("gate_clips").GateClip(str(place), f"speaker{place % 2}", "a clip", 2.0, ())


def test_speakers_are_drawn_whole(gates: ModuleType) -> None:
    """Forty clips of two speakers that disagree: clips drawn one by one would give an interval a fifth as wide."""
    speakers = ["ann"] * 20 + ["bob"] * 20
    found = gates.interval(np.repeat([1.0, 0.0], 20), np.full(40, 10.0), speakers)
    assert found == {"difference": pytest.approx(0.05), "low": 0.0, "high": pytest.approx(0.1)}


def finished(folder: Path, seed: int, wrong: int, clips: int = 40, window: str = "full") -> Path:
    """Write what gate b reads of a run: ``wrong`` clips of ten words have one error each."""
    (folder / "test").mkdir(parents=True)
    settings = {"experiment": {"name": "x", "seed": seed}, "model": {"name_or_path": "m"}}
    (folder / "config.yaml").write_text(json.dumps(settings | {"data": {"corpus": "manifest", "path": "p"}}))
    (folder / "test" / "test_results.json").write_text(json.dumps({"wer": wrong / clips / 10, "window": window}))
    with (folder / "test" / "test_predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for clip in range(clips):
            errors = int((clip * 7 + seed) % clips < wrong)
            counts = {"substitutions": errors, "deletions": 0, "insertions": 0, "hits": 10 - errors}
            writer.writerow({"id": clip, "reference_normalized": "ten words", "speaker": f"s{clip % 8}", **counts})
    return folder


def test_gate_b_pools_seeds(gates: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = [str(finished(tmp_path / f"full{seed}", seed, 10)) for seed in (1, 2, 3)]
    same = ",".join(str(finished(tmp_path / f"same{seed}", seed, 10)) for seed in (3, 1, 2))
    worse = ",".join(str(finished(tmp_path / f"worse{seed}", seed, 30)) for seed in (1, 2, 3))
    output = tmp_path / "b.json"
    assert gates.main(["b", "--full", *full, "--other", f"same={same}", "--output", str(output)]) == 0
    assert gates.main(["b", "--full", *full, "--other", f"same={same}", "--other", f"worse={worse}"]) == 1
    shown = capsys.readouterr().out
    assert "says too little" in shown and "no" in shown
    (row,) = json.loads(output.read_text())["rows"]
    assert row["wer"] == {"difference": 0.0, "low": 0.0, "high": 0.0} and row["wer_full"] == pytest.approx(0.025)
    assert row["seeds"] == [1, 2, 3] and row["speakers"] == 8 and not row["enough"] and row["passes"]


def test_one_loop_is_told_apart_from_many_errors(gates: ModuleType, tmp_path: Path) -> None:
    """A clip of ten words with ninety more: 90 errors in the rate that decides, 10 in the one beside it."""
    full = [str(finished(tmp_path / f"full{seed}", seed, 10)) for seed in (1, 2, 3)]
    other = [finished(tmp_path / f"other{seed}", seed, 10) for seed in (1, 2, 3)]
    path = other[0] / "test" / "test_predictions.csv"
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    right = next(row for row in rows if row[header.index("substitutions")] == "0")
    right[header.index("insertions")] = "90"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    output = tmp_path / "b.json"
    named = f"other={','.join(map(str, other))}"
    assert gates.main(["b", "--full", *full, "--other", named, "--output", str(output)]) == 1
    (row,) = json.loads(output.read_text())["rows"]
    assert row["wer"]["difference"] == pytest.approx(90 / 1200) and not row["passes"]
    assert row["wer_without_loops"]["difference"] == pytest.approx(10 / 1200)


def test_gate_b_reads_another_test(gates: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [finished(tmp_path / name, 1, 10) for name in ("full", "pack")]
    given = ["b", "--full", str(runs[0]), "--other", f"pack={runs[1]}", "--test", "test_long"]
    assert gates.main(given) == 2 and "test_long" in capsys.readouterr().err
    for run in runs:
        (run / "test").rename(run / "test_long")
    assert gates.main(given) == 0


def test_long_clips_are_joined_of_neighbours(
    gates: ModuleType, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    join, gate_clips = importlib.import_module("join_clips"), importlib.import_module("gate_clips")
    given = ["--config", str(config), "--output", str(tmp_path / "joined"), "--seconds", "5"]
    assert join.main(given) == 0 and "joined.yaml: " in capsys.readouterr().out
    both = [str(config), str(tmp_path / "joined" / "joined.yaml")]
    short, long = (
        gate_clips.read_clips(gate_clips.configuration(files, []), "test", None) for files in (both[:1], both)
    )
    assert len(long) > 1 and all(clip.seconds <= 5 for clip in long)
    of = {clip.id: clip for clip in short}
    with (tmp_path / "joined" / "manifest.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, dialect="excel-tab"))
    assert len(rows) == len(long)
    for row in rows:
        (clip,) = [clip for clip in long if row["path"] in str(clip.audio[0].path)]
        parts = [of[name] for name in row["id"].split("+")]
        assert len(parts) > 1 and {part.speaker for part in parts} == {row["speaker"]}
        assert row["text"] == " ".join(part.text for part in parts)
        np.testing.assert_allclose(clip.samples(), np.concatenate([part.samples() for part in parts]), atol=2e-4)
    assert join.main([*given[:2], "data.path=nowhere", *given[2:]]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 9}, "expected runs of the seeds [1], found [9]"),
        ({"clips": 30}, "expected the same test clips and references in all runs"),
        ({"window": "thinned"}, "expected a test decoded by the full window, found thinned"),
    ],
)
def test_runs_that_cannot_be_compared(
    gates: ModuleType, tmp_path: Path, change: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    full = finished(tmp_path / "full", 1, 10)
    other = finished(tmp_path / "other", **({"seed": 1, "wrong": 10} | change))
    assert gates.main(["b", "--full", str(full), "--other", f"other={other}"]) == 2
    assert words in capsys.readouterr().err
