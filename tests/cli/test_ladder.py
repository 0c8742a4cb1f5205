"""The ladder's runs: kept, resumed, refused, failed and interrupted; a stand-in script takes the recipe's place."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_asr.cli import ladder as runner
from hf_asr.config.ladder import Ladder, load_ladder
from hf_asr.errors import UserError

# Writes what a run writes; its WER is 0.5, with the encoder frozen 0.2; it fails where the tags ask for it.
SCRIPT = """
import csv, json, os, signal, sys
from pathlib import Path
import yaml
config = yaml.safe_load(Path(sys.argv[2]).read_text())
assert sys.argv[3:] == ["training.resume_from_checkpoint=true"]
run = Path(config["experiment"]["output_dir"]) / config["experiment"]["name"]
(run / "test").mkdir(parents=True, exist_ok=True)
(run / "config.yaml").write_text(Path(sys.argv[2]).read_text())
with open(run / "calls.txt", "a") as file:
    file.write("call\\n")
wish = config["model"]["revision"]
if wish == "mistake":
    print("INFO begun", file=sys.stderr)
    print("model.revision: expected another", file=sys.stderr)
    sys.exit(2)
if wish == "crash":
    raise RuntimeError("out of luck")
if wish == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
for name in ("checkpoints", "best_checkpoint"):
    (run / name).mkdir(exist_ok=True)
errors = 2 if "encoder" in config["freeze"]["groups"] else 5
parts = ["test"] + (["baseline"] if config["evaluation"]["baseline"] else [])
names = "id,reference,hypothesis,reference_normalized,hypothesis_normalized,duration,speaker"
for part in parts:
    (run / part).mkdir(exist_ok=True)
    lines = [names + ",substitutions,deletions,insertions,hits"]
    lines += [f"c{index},a,b,a,b,1.0,s{index % 7},{errors},0,0,{10 - errors}" for index in range(14)]
    (run / part / "test_predictions.csv").write_text("\\n".join(lines) + "\\n")
    (run / part / "test_results.json").write_text(json.dumps({"wer": errors / 10}))
(run / "resources.json").write_text(json.dumps({"train_seconds": 2.0, "steps": 1, "steps_in_all": 1}))
"""
VARIANTS: dict[str, Any] = {"frozen": {"freeze": {"groups": ["encoder"]}}}


def plan(folder: Path, variants: dict[str, Any] | None = None, **ladder: Any) -> Ladder:
    """Return a ladder whose recipe is the stand-in."""
    tree = {
        "experiment": {"name": "steps", "output_dir": str(folder / "out")},
        "model": {"name_or_path": "some/model"},
        "data": {"corpus": "manifest", "path": "clips.csv"},
        "ladder": {"seeds": [1, 2], "variants": variants or VARIANTS, **ladder},
    }
    (folder / "ladder.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    (folder / "finetune_seq2seq.py").write_text(SCRIPT)
    return load_ladder([folder / "ladder.yaml"])


def calls(ladder: Ladder) -> dict[str, int]:
    """Return how often each run was started."""
    files = {name: run.run_dir / "calls.txt" for name, run in ladder.runs.items()}
    return {name: len(file.read_text().split()) for name, file in files.items() if file.is_file()}


def test_every_run_is_made_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ladder = plan(tmp_path)
    table = runner.run_ladder(ladder, tmp_path)
    assert calls(ladder) == dict.fromkeys(ladder.runs, 1)
    assert {name: round(rate.value, 6) for name, rate in table.rates.items()} == {
        "untouched": 0.5,
        "base": 0.5,
        "frozen": 0.2,
    }
    assert table.comparisons["frozen"].verdict == "better"
    assert {"ladder.md", "ladder.csv", "ladder.json", "runs", "logs", "configs"} <= {
        path.name for path in ladder.folder.iterdir()
    }
    assert "run 4 of 4, frozen-seed2: WER 0.2000" in capsys.readouterr().err
    runner.show(table, ladder.folder)
    assert "better" in capsys.readouterr().out


def test_finished_runs_are_kept(tmp_path: Path) -> None:
    ladder = plan(tmp_path)
    runner.run_ladder(ladder, tmp_path)
    done = ladder.runs["base-seed1"]
    (ladder.runs["frozen-seed2"].run_dir / "test" / "test_results.json").unlink()
    runner.run_ladder(plan(tmp_path), tmp_path)
    assert calls(ladder) == dict.fromkeys(ladder.runs, 1) | {"frozen-seed2": 2}
    assert not (done.run_dir / "checkpoints").exists() and not (done.run_dir / "best_checkpoint").exists()


def test_weights_are_kept_when_asked_for(tmp_path: Path) -> None:
    ladder = plan(tmp_path, keep_weights=True, seeds=[1])
    runner.run_ladder(ladder, tmp_path)
    assert (ladder.runs["base-seed1"].run_dir / "best_checkpoint").is_dir()


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("mistake", "model.revision: expected another"),
        ("crash", "RuntimeError: out of luck (exit code 1; see logs/broken-seed1.log)"),
        ("killed", "ended by SIGKILL (memory ran out?); its last line: it wrote nothing"),
    ],
)
def test_a_variant_that_fails_is_a_row_that_says_why(tmp_path: Path, wish: str, message: str) -> None:
    ladder = plan(tmp_path, {"broken": {"model": {"revision": wish}}, **VARIANTS}, seeds=[1])
    table = runner.run_ladder(ladder, tmp_path)
    assert next(row for row in table.rows if row.name == "broken").failures == {1: message}
    assert "frozen" in table.rates and message in (ladder.folder / "ladder.md").read_text()
    runner.run_ladder(ladder, tmp_path)
    assert calls(ladder)["broken-seed1"] == 2, "a failed run is tried again"


def test_a_ladder_of_failures_is_a_mistake(tmp_path: Path) -> None:
    ladder = plan(tmp_path, seeds=[1])
    for run in ladder.runs.values():
        run.model.revision = "mistake"
    with pytest.raises(UserError, match=r"expected runs that can be finished.*model\.revision"):
        runner.run_ladder(ladder, tmp_path)
    assert (ladder.folder / "ladder.json").is_file()


def test_runs_made_with_other_values_are_not_mixed_in(tmp_path: Path) -> None:
    runner.run_ladder(plan(tmp_path, seeds=[1]), tmp_path)
    changed = plan(tmp_path, {"frozen": {"freeze": {"groups": ["decoder"]}}}, seeds=[1])
    with pytest.raises(UserError, match=r"frozen-seed1.*freeze.groups is \['decoder'\], was \['encoder'\]"):
        runner.run_ladder(changed, tmp_path)


def test_more_seeds_may_be_added(tmp_path: Path) -> None:
    runner.run_ladder(plan(tmp_path, seeds=[2]), tmp_path)
    ladder = plan(tmp_path, seeds=[1, 2])
    runner.run_ladder(ladder, tmp_path)
    assert calls(ladder) == dict.fromkeys(ladder.runs, 1)


def test_an_interrupted_ladder_has_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder, waited = plan(tmp_path), []

    def interrupt_the_third(process: Any) -> int:
        waited.append(process)
        code: int = process.wait()
        if len(waited) == 3:
            raise KeyboardInterrupt
        return code

    monkeypatch.setattr(runner, "wait_for", interrupt_the_third)
    with pytest.raises(KeyboardInterrupt):
        runner.run_ladder(ladder, tmp_path)
    rows = json.loads((ladder.folder / "ladder.json").read_text())["rows"]
    assert {row["name"]: row["missing"] for row in rows} == {"untouched": [], "base": [], "frozen": [2]}


class StubbornRun:
    """A process that ends only when it is sent a signal."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> int:
        """Be interrupted, then run out of time, then end."""
        self.waits.append(timeout)
        if len(self.waits) == 1:
            raise KeyboardInterrupt
        if timeout is not None:
            raise runner.subprocess.TimeoutExpired("run", timeout)
        return 130

    def send_signal(self, number: int) -> None:
        """Note the signal."""
        self.signals.append(number)


def test_an_interrupt_is_passed_on_to_a_run_that_did_not_get_it() -> None:
    process: Any = StubbornRun()
    with pytest.raises(KeyboardInterrupt):
        runner.wait_for(process)
    assert process.signals == [signal.SIGINT] and process.waits[-1] is None


def test_runs_are_launched_by_accelerate_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "two.yaml").write_text("num_processes: 2\n")
    ladder, commands = plan(tmp_path, seeds=[1], accelerate_config=str(tmp_path / "two.yaml")), []
    monkeypatch.setattr(runner.subprocess, "Popen", lambda command, **_: commands.append(command))
    monkeypatch.setattr(runner, "wait_for", lambda _: 1)
    with pytest.raises(UserError):
        runner.run_ladder(ladder, tmp_path)
    assert commands[0][1:5] == ["-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "two.yaml")]
