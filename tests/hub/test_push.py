"""Pushing: which files, what is left of them, and what the Hub's real client sends to a stand-in of its API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.finished_run import PRIVATE, make_finished_run
from helpers.hub_stand_in import HubStandIn, hub_stand_in

from hf_asr.errors import UserError
from hf_asr.hub.push import list_push_files

TOKEN = "hf_aTokenThatNobodyMaySee"
PUSHED = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "test_results.json",
    "config.yaml",
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return make_finished_run(tmp_path / "runs" / "tiny")


def push(
    run_dir: Path, endpoint: str, *options: str, repo: str = "org/tiny", **changes: str
) -> subprocess.CompletedProcess[str]:
    """Push in a process of its own: the client reads its addresses when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(run_dir.parent / "hf_home")}
    environment |= {"NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1"} | changes
    command = [sys.executable, "-m", "hf_asr", "push", str(run_dir), "--repo", repo, *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def assert_complete(hub: HubStandIn, run_dir: Path) -> None:
    """Compare what the stand-in holds with the run, byte by byte where nothing had to be cut."""
    best = run_dir / "best_checkpoint"
    assert set(hub.files) == PUSHED
    assert hub.files["model.safetensors"] == (best / "model.safetensors").read_bytes()
    assert hub.files["tokenizer.json"] == (best / "tokenizer.json").read_bytes()
    assert b"".join(hub.files.values()).count(PRIVATE.encode()) == 0
    assert b'model="org/tiny"' in hub.files["README.md"]


def test_files_of_a_run_are_what_plain_from_pretrained_reads_with_card_config_and_results(run_dir: Path) -> None:
    files = list_push_files(run_dir)
    assert {file.path for file in files} == PUSHED
    weights = next(file for file in files if file.path == "model.safetensors")
    assert weights.content is None
    assert weights.size == (run_dir / "best_checkpoint" / "model.safetensors").stat().st_size


def test_texts_are_sent_without_local_paths_and_the_run_folder_keeps_them(run_dir: Path) -> None:
    content = {file.path: file.content for file in list_push_files(run_dir) if file.content is not None}
    assert yaml.safe_load(content["config.yaml"])["data"]["path"] == "clips.csv"
    assert json.loads(content["config.json"]) == {"model_type": "whisper", "_name_or_path": "base"}
    assert json.loads(content["test_results.json"]) == {
        "wer": 0.125,
        "normalizer": "basic",
        "command": ["hf-asr", "evaluate", "--config=run.yaml"],
        "skipped": {"broken_audio": [["clip.wav", "truncated"]]},
    }
    assert PRIVATE in (run_dir / "config.yaml").read_text()


@pytest.mark.parametrize("missing", ["best_checkpoint/model.safetensors", "README.md", "test/test_results.json"])
def test_an_unfinished_run_is_refused_with_what_is_missing(run_dir: Path, missing: str) -> None:
    (run_dir / missing).unlink()
    with pytest.raises(UserError, match=r"safetensors" if "safetensors" in missing else missing):
        list_push_files(run_dir)


def test_no_run_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"finished run.*nothing without best_checkpoint"):
        list_push_files(tmp_path / "nothing")


@pytest.mark.parametrize("lfs", [True, False], ids=["large files apart", "all in the commit"])
def test_the_real_client_sends_every_byte_in_one_commit(run_dir: Path, lfs: bool) -> None:
    with hub_stand_in(lfs=lfs) as hub:
        done = push(run_dir, hub.endpoint, "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"pushed to {hub.endpoint}/org/tiny")
    assert hub.created[0] | {"name": "tiny", "organization": "org", "visibility": "private"} == hub.created[0]
    assert [path for _, path in hub.requests if "/commit/" in path] == ["/api/models/org/tiny/commit/main"]
    assert_complete(hub, run_dir)
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN in path.read_text(errors="replace") for path in run_dir.parent.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "refuses it (401"),
        (403, "refuses it (403"),
    ],
)
def test_what_the_hub_refuses_is_told_without_traceback_or_token(run_dir: Path, status: int, told: str) -> None:
    with hub_stand_in(refuse_with=status) as hub:
        done = push(run_dir, hub.endpoint)
    assert done.returncode == 2
    assert done.stderr.startswith("hf-asr push: expected")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr
    assert hub.files == {}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"HF_TOKEN": ""}, "Hub token with write access, found none"),
        ({"HF_HUB_OFFLINE": "1"}, "found HF_HUB_OFFLINE set"),
        pytest.param({}, "expected to reach http://127.0.0.1:9", marks=pytest.mark.slow),  # it tries for 31 s
        ({"repo": "org/ti ny"}, "expected --repo ORG/NAME, found 'org/ti ny'"),
    ],
    ids=["no token", "offline", "nobody there", "no name of a repository"],
)
def test_a_push_that_cannot_begin_says_why(run_dir: Path, changes: dict[str, str], told: str) -> None:
    done = push(run_dir, "http://127.0.0.1:9", **changes)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
