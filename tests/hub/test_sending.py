"""Pushing through faults: the real client against a stand-in that is busy, cut off or in somebody else's hands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.finished_run import make_finished_run
from helpers.hub_stand_in import HubStandIn, hub_stand_in

from hf_asr.errors import UserError
from hf_asr.hub import sending
from hf_asr.hub.push import is_private, push_run

TOKEN = "hf_" + "aTokenThatNobodyMaySee"
REPO = "org/tiny"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return make_finished_run(tmp_path / "runs" / "tiny")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the client reach a server on this machine, and waste no time with waiting; return what it would wait."""
    waits: list[float] = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setattr(sending, "time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return waits


@pytest.fixture
def hub(slept: list[float]) -> Iterator[HubStandIn]:
    with hub_stand_in() as stand_in:
        yield stand_in


def assert_arrived(hub: HubStandIn, run_dir: Path) -> None:
    weights = (run_dir / "best_checkpoint" / "model.safetensors").read_bytes()
    assert hub.files["model.safetensors"] == weights
    assert {"README.md", "config.json", "test_results.json"} <= hub.files.keys()
    assert hub.tokens == {f"Bearer {TOKEN}"} or hub.tokens == {f"Bearer {TOKEN}", None}


FAULTS = {
    "the server is down when the repository is made": {"/api/repos/create": [503, 0]},
    "the server is down while asked how to upload": {"/preupload/": [500, 502]},
    "an upload is cut": {"^/objects/": [0, 500, 0]},
    "the batch of large files is refused for a moment": {"/lfs/objects/batch": [504]},
    "too many requests": {"/commit/": [429, 429]},
    "the commit is cut": {"/commit/": [0]},
    "somebody else has just committed": {"/commit/": [409, 412]},
    "all of them": {
        "/create": [500],
        "/preupload/": [0],
        "/batch": [429],
        "^/objects/": [0],
        "/commit/": [500, 409, 0],
    },
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_passes_is_tried_again(hub: HubStandIn, run_dir: Path, slept: list[float], name: str) -> None:
    hub.faults = {part: list(left) for part, left in FAULTS[name].items()}
    assert push_run(run_dir, REPO, endpoint=hub.endpoint) == f"{hub.endpoint}/{REPO}"
    assert_arrived(hub, run_dir)
    assert not any(left for left in hub.faults.values())
    assert hub.commits == 1
    assert len(slept) >= sum(map(len, FAULTS[name].values()))


@pytest.mark.parametrize("part", ["/api/repos/create", "/preupload/", "/commit/"])
def test_the_time_that_a_server_asks_for_is_waited(
    hub: HubStandIn, run_dir: Path, slept: list[float], part: str
) -> None:
    hub.faults, hub.headers = {part: [429]}, {"Retry-After": "37"}
    push_run(run_dir, REPO, endpoint=hub.endpoint)
    assert [seconds for seconds in slept if seconds >= 37] == pytest.approx([37], abs=1)


def test_a_server_that_stays_down_is_told_with_the_number_of_tries(hub: HubStandIn, run_dir: Path) -> None:
    hub.refuse_with = 503
    with pytest.raises(UserError, match=r"found 503 after 6 tries.*push again") as told:
        push_run(run_dir, REPO, endpoint=hub.endpoint)
    assert TOKEN not in str(told.value)
    assert len([path for _, path in hub.requests if path.endswith("/create")]) == 6


def test_what_does_not_pass_is_not_tried_again(hub: HubStandIn, run_dir: Path, slept: list[float]) -> None:
    hub.faults = {"/commit/": [403]}
    with pytest.raises(UserError, match="may write"):
        push_run(run_dir, REPO, endpoint=hub.endpoint)
    assert slept == []


def test_large_files_go_in_parts(slept: list[float], run_dir: Path) -> None:
    with hub_stand_in(part_size=5000) as hub:
        hub.faults = {"^/objects/": [0, 500]}
        push_run(run_dir, REPO, endpoint=hub.endpoint)
    assert_arrived(hub, run_dir)
    assert len(hub.parts) == 3


def test_a_push_that_failed_goes_on_where_it_was(hub: HubStandIn, run_dir: Path, slept: list[float]) -> None:
    hub.faults = {"/commit/": [403]}
    with pytest.raises(UserError):
        push_run(run_dir, REPO, endpoint=hub.endpoint)
    uploads = [path for method, path in hub.requests if method == "PUT"]
    assert len(uploads) == 1
    push_run(run_dir, REPO, endpoint=hub.endpoint)
    assert [path for method, path in hub.requests if method == "PUT"] == uploads
    assert_arrived(hub, run_dir)


def test_a_second_push_takes_stale_weights_away(hub: HubStandIn, run_dir: Path) -> None:
    hub.files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"", "notes.md": b"mine"}
    push_run(run_dir, REPO, endpoint=hub.endpoint)
    assert not any(name.startswith("adapter") for name in hub.files)
    assert hub.files["notes.md"] == b"mine"


@pytest.mark.parametrize(
    ("data", "given", "expected"),
    [
        ({"corpus": "manifest", "path": "clips.csv"}, None, True),
        ({"corpus": "common_voice", "path": "cv/ru"}, None, True),
        ({"corpus": "hub", "name": "org/corpus"}, None, None),
        ({"corpus": "hub", "path": "shards"}, None, True),
        ({"corpus": "webdataset", "path": "https://example.org/train-{000..009}.tar"}, None, None),
        ({"sources": [{"corpus": "hub", "name": "a/b"}, {"corpus": "audiofolder", "path": "mine"}]}, None, True),
        ({"corpus": "hub", "name": "a/b", "splits": {"test": {"corpus": "manifest", "path": "x.csv"}}}, None, True),
        ({"corpus": "synthetic", "path": "spoken"}, None, None),
        ({"corpus": "manifest", "path": "clips.csv"}, False, False),
        ({"corpus": "hub", "name": "org/corpus"}, True, True),
    ],
)
def test_local_data_makes_a_repository_private(data: dict[str, object], given: bool | None, expected: bool) -> None:
    assert is_private(given, data) is expected


def test_visibility_reaches_the_hub(hub: HubStandIn, run_dir: Path) -> None:
    push_run(run_dir, REPO, endpoint=hub.endpoint)
    assert hub.created[0]["visibility"] == "private"
    push_run(run_dir, "org/open", private=False, endpoint=hub.endpoint)
    assert hub.created[1]["visibility"] == "public"


def test_local_data_does_not_go_to_a_public_repository(hub: HubStandIn, run_dir: Path) -> None:
    hub.public = True
    with pytest.raises(UserError, match=r"expected org/tiny to be private.*found it public"):
        push_run(run_dir, REPO, endpoint=hub.endpoint)
    assert hub.files == {}


def test_offline_what_would_be_pushed_is_written(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (run_dir / "to_push").mkdir()
    (run_dir / "to_push" / "stale").write_text("of an earlier push")
    folder = Path(push_run(run_dir, REPO))
    assert folder == run_dir / "to_push"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"README.md", "model.safetensors", "config.yaml"} <= names
    assert "stale" not in names
    assert os.path.samefile(folder / "model.safetensors", run_dir / "best_checkpoint" / "model.safetensors")
    assert json.loads((folder / "config.json").read_text())["_name_or_path"] == "base"
