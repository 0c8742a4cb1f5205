"""The launch files: scripts run with stand-ins of Slurm's programs, manifests read and held to what they say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

LAUNCH = Path(__file__).resolve().parents[2] / "recipes" / "launch"
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS")
# Four tasks on two machines, one after the other; the answer is that of the last which failed.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
answer=0
for task in 0 1 2 3; do
    SLURM_PROCID=$task SLURM_LOCALID=$((task % 2)) SLURM_NTASKS=4 "$@" || answer=$?
done
exit $answer
"""
SCONTROL = """#!/bin/bash
[[ $1 == show ]] && printf 'first\\nsecond\\n' || echo "$@" >> "$TOLD"
"""
SCRIPT = f"""
import os, sys
print(*(os.environ[name] for name in {NAMES}), *sys.argv[1:], flush=True)
sys.exit(int(os.environ["ANSWER"]))
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment with stand-ins of srun and scontrol; the script prints what it was given."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "script.py").write_text(SCRIPT)
    given = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "first,second", "SLURM_NTASKS_PER_NODE": "2"}
    given |= {"SLURM_CPUS_PER_TASK": "8", "HF_ASR_SCRIPT": str(tmp_path / "script.py"), "TOLD": str(tmp_path / "told")}
    return os.environ | given | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "ANSWER": "0"}


def run(script: str, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(LAUNCH / script), *words], env=environment, capture_output=True, text=True)


def test_slurm_gives_every_process_its_place(slurm: dict[str, str]) -> None:
    done = run("slurm.sh", slurm, "my.yaml", "data.path=/a b")
    words = "--config my.yaml data.path=/a b training.resume_from_checkpoint=true"
    expected = [f"{rank} {rank % 2} 4 2 first 8 {words}" for rank in range(4)]
    assert (done.returncode, done.stdout.splitlines()) == (0, expected)


@pytest.mark.parametrize(("answer", "requeued"), [(0, False), (1, False), (2, False), (143, True)])
def test_only_what_was_told_to_stop_is_queued_again(slurm: dict[str, str], answer: int, requeued: bool) -> None:
    done = run("slurm.sh", slurm | {"ANSWER": str(answer)}, "my.yaml")
    told = Path(slurm["TOLD"])
    assert done.returncode == answer
    assert told.is_file() == requeued
    assert not requeued or told.read_text() == "requeue 123456\n"


def test_slurm_tasks_of_features_are_shards(slurm: dict[str, str]) -> None:
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}
    environment = slurm | array | dict.fromkeys(NAMES, "-")
    done = run("slurm_features.sh", environment, "my.yaml", "features.num_proc=32")
    assert done.stdout.split(" ", 6)[6] == "--config my.yaml features.num_proc=32 --shard 3/8\n"


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_manifest_is_one_job_and_the_service_it_meets_at(path: Path) -> None:
    service, job = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    name, spec = service["metadata"]["name"], job["spec"]
    pod: dict[str, Any] = spec["template"]["spec"]
    assert pod["subdomain"] == name and service["spec"]["clusterIP"] == "None"
    assert spec["template"]["metadata"]["labels"].items() >= service["spec"]["selector"].items()
    assert spec["completions"] == spec["parallelism"] and spec["completionMode"] == "Indexed"
    assert spec["suspend"] and "kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]
    [container] = pod["containers"]
    command = container["command"]
    nodes = re.search(r"--nnodes=(?:\d+:)?(\d+)", " ".join(command))
    assert nodes and int(nodes[1]) == spec["completions"]
    assert f"--nproc_per_node={container['resources']['limits']['nvidia.com/gpu']}" in command
    assert any(f"{name}-0.{name}" in word for word in command)
    assert "training.resume_from_checkpoint=true" in command
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    for word in command:
        assert not word.startswith("recipes/") or (LAUNCH.parents[1] / word).is_file()


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.[sy]*")), ids=lambda path: path.name)
def test_a_header_says_that_it_was_not_run(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    assert any(line.startswith("# Not run: no ") for line in lines)


def test_the_page_names_files_that_are_there() -> None:
    text = (LAUNCH / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"recipes/[\w/]+\.(?:yaml|sh|py)", text))
    assert {f"recipes/launch/{path.name}" for path in LAUNCH.glob("*.[sy]*")} <= named
    assert not [name for name in named if not (LAUNCH.parents[1] / name).is_file()]
