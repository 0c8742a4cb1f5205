"""Is a training that was killed and resumed the one that was never killed? Kills at random moments, and comparisons.

    python benchmarks/kill_resume.py [--kills 20] [--ways stream] [--seed 0] [--output FILE]

Eight ways to train: a cached table or a stream of WebDataset shards, 0 or 2 loader workers, 1 process or 2 (torchrun,
gloo). Each is run once undisturbed. Then it is started again, killed with SIGKILL (every process of it) at a random
step and up to 100 ms later, which may be in the middle of a save, and resumed; the kills are dealt to the ways in turn.
In the end ``sample_ids.jsonl`` must be equal to the byte, and every logged loss and gradient norm to the last digit.

A run has 60 steps with a checkpoint every 4; the model is a Whisper of a few thousand parameters with dropout. Almost
all of the time is the import of torch and transformers. Exit 1 when anything differs. Needs a checkout: the tiny model
and corpus are those of the tests.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
STEPS, SAVED, SHARDS, CLIPS = 60, 4, 6, 5
# Seconds after which a run that makes no progress has failed.
PATIENCE = 600


@dataclass(frozen=True)
class Way:
    """One way to train.

    Attributes:
        stream: A stream of shards, in place of a cached table.
        workers: Processes that load batches.
        processes: Processes that train.
    """

    stream: bool
    workers: int
    processes: int

    @property
    def name(self) -> str:
        """What the table calls it, and its run folder."""
        return f"{'stream' if self.stream else 'table'}-{self.workers}-workers-{self.processes}-processes"


def make_yaml(folder: Path) -> Path:
    """Write model, corpus (30 clips in 6 shards) and the YAML that all runs share; return the YAML."""
    from helpers.tiny_shards import make_tars, members_of, write_tar
    from helpers.tiny_whisper import make_tiny_whisper

    make_tars(folder / "corpus", SHARDS, CLIPS)
    write_tar(folder / "corpus" / "test-0.tar", members_of(SHARDS * CLIPS))
    model = make_tiny_whisper(folder / "model", d_model=16)
    sections = {
        "experiment": {"name": "run", "output_dir": str(folder / "runs")},
        "model": {"name_or_path": str(model), "dropout": 0.1},
        "data": {"corpus": "webdataset", "path": str(folder / "corpus"), "language": "en", "max_seconds": 4},
        "features": {"num_proc": 1},
        "training": {
            "max_steps": STEPS,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3,
            "logging_steps": 3,
            "eval_strategy": "no",
            "save_strategy": "steps",
            "save_steps": SAVED,
            "use_cpu": True,
            "log_sample_ids": True,
        },
        "evaluation": {"baseline": False, "batch_size": 4, "generation": {"max_new_tokens": 2}},
    }
    path = folder / "run.yaml"
    path.write_text(json.dumps(sections))
    return path


def start(yaml: Path, way: Way, name: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a run, or go on with it."""
    command = [sys.executable]
    if way.processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={way.processes}"]
    command += [str(ROOT / "recipes" / "finetune_seq2seq.py"), "--config", str(yaml), f"experiment.name={name}"]
    command += [f"data.streaming={str(way.stream).lower()}", f"data.num_workers={way.workers}"]
    command += ["training.resume_from_checkpoint=true"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    here = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": path,
        "HF_ASR_CACHE": str(yaml.parent / "cache"),
    }
    with log.open("ab") as file:
        return subprocess.Popen(command, env=os.environ | here, stdout=file, stderr=file)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a run with all processes that it started."""
    every = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in every:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(every, timeout=30)


def steps_done(run: Path) -> int:
    """Return the last step of a run's sample log."""
    log = run / "sample_ids.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.is_file() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a run to end well.

    Raises:
        RuntimeError: It did not.
    """
    if process.wait(timeout=PATIENCE):
        raise RuntimeError(f"a run ended with {process.returncode}:\n{log.read_text()[-3000:]}")


def kill_once(yaml: Path, way: Way, name: str, goal: int, delay: float, log: Path) -> tuple[int, int]:
    """Start or resume a run and kill it once step ``goal`` is logged; return (its step, its last checkpoint)."""
    run = yaml.parent / "runs" / name
    process = start(yaml, way, name, log)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and steps_done(run) < goal and time.monotonic() < deadline:
        time.sleep(0.003)
    if process.poll() is not None or time.monotonic() >= deadline:
        kill(process) if process.poll() is None else None
        raise RuntimeError(f"a run ended, or stood still, before it was killed:\n{log.read_text()[-3000:]}")
    time.sleep(delay)
    kill(process)
    whole = [int(path.name.split("-")[1]) for path in (run / "checkpoints").glob("checkpoint-*")]
    return steps_done(run), max(whole, default=0)


def result_of(run: Path) -> dict[str, Any]:
    """Return what must be equal: the sample log, and every logged loss and gradient norm."""
    state = json.loads((run / "checkpoints" / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    losses = [(entry["step"], entry["loss"], entry["grad_norm"]) for entry in state["log_history"] if "loss" in entry]
    return {"sample_ids": (run / "sample_ids.jsonl").read_text(), "losses": losses}


def try_way(yaml: Path, way: Way, goals: list[int], chance: random.Random) -> dict[str, Any]:
    """Run one way whole, and once with kills; return what was found."""
    log = yaml.parent / f"{way.name}.log"
    begun = time.monotonic()
    finish(start(yaml, way, f"{way.name}-whole", log), log)
    killed = f"{way.name}-killed"
    kills = [kill_once(yaml, way, killed, goal, chance.random() / 10, log) for goal in goals]
    finish(start(yaml, way, killed, log), log)
    whole, resumed = (result_of(yaml.parent / "runs" / name) for name in (f"{way.name}-whole", killed))
    same = {name: whole[name] == resumed[name] for name in whole}
    return {"way": way.name, "kills": kills, **same, "seconds": round(time.monotonic() - begun, 1)}


def main() -> int:
    """Try all ways; return 1 when a resumed run was another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills over all ways (default 20)")
    parser.add_argument("--ways", default="", help="only those whose name has this in it, such as 2-workers")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (default 0)")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    every = [Way(*choice) for choice in itertools.product((True, False), (0, 2), (1, 2))]
    ways = [way for way in every if options.ways in way.name]
    number = {way: len(range(index, options.kills, len(ways))) for index, way in enumerate(ways)}
    table = Table(title="Killed and resumed against never killed")
    for column in ("way", "killed at step (checkpoint before)", "same samples", "same losses", "seconds"):
        table.add_column(column)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        yaml = make_yaml(Path(folder))
        for way in (way for way in ways if number[way]):
            goals = sorted(chance.randint(1, STEPS - 2) for _ in range(number[way]))
            results.append(found := try_way(yaml, way, goals, chance))
            kills = ", ".join(f"{step} ({checkpoint})" for step, checkpoint in found["kills"])
            table.add_row(way.name, kills, str(found["sample_ids"]), str(found["losses"]), str(found["seconds"]))
            print(f"{way.name}: {found}", file=sys.stderr, flush=True)
    same = sum(len(found["kills"]) for found in results if found["sample_ids"] and found["losses"])
    Console(width=120).print(table, f"{same} of {options.kills} kills left the training as it was")
    if options.output:
        options.output.write_text(json.dumps({"kills": options.kills, "same": same, "ways": results}, indent=1) + "\n")
    return int(same < options.kills)


if __name__ == "__main__":
    sys.exit(main())
