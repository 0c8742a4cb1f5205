"""Shards of a data set on the Hub, read by the real clients from a stand-in: Parquet, and tars by hf:// addresses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.hub_files import hub_files
from helpers.tiny_shards import make_parquet, make_tars

pytestmark = pytest.mark.slow

READ = """
import json, sys
from hf_asr.config.arguments import DataArguments
from hf_asr.data import remote
from hf_asr.data.streaming import stream_rows
from hf_asr.utterance import Drops
remote.FIRST_WAIT, remote.LONGEST_WAIT = 0.001, 0.01
stream = stream_rows(DataArguments(**json.loads(sys.argv[1]), streaming=True), "train", 0, Drops())
ids = [[stream.row(place)["id"] for place in stream.places(epoch)] for epoch in (0, 1)]
print(json.dumps({"ids": ids, "shards": stream.shards(), "drops": stream.take_drops(), "failed": stream.failed}))
"""
FORMS = {
    "parquet": (make_parquet, {"corpus": "hub", "name": "org/speech"}),
    "tars": (make_tars, {"corpus": "webdataset", "path": "hf://datasets/org/speech/data/train-{000..002}.tar"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_clip_once_an_epoch(form: str, tmp_path: Path, project_root: Path) -> None:
    make, section = FORMS[form]
    ids = make(tmp_path / "served" / "data", 3, 4)
    with hub_files(tmp_path / "served", "org/speech") as hub:
        hub.faults = [503, 429, 500] if form == "tars" else []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        environment |= {
            "HF_ASR_CACHE": str(tmp_path / "cache"),
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(project_root),
        }
        command = [sys.executable, "-c", READ, json.dumps(section)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{hub.unknown}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert [sorted(epoch) for epoch in found["ids"]] == [ids, ids] and found["ids"][0] != found["ids"][1]
    assert (found["shards"], found["drops"], found["failed"]) == ([3], [], {})
    assert not hub.faults
