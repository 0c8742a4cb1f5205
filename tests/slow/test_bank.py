"""The bank on two processes, after a kill, and on real speech: the numbers of a run without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.processes import history, launch
from helpers.thin_clips import loud_whisper
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.config.parser import load_arguments
from hf_asr.data.corpora import build_splits
from hf_asr.features.bank import bank_split
from hf_asr.features.prepare import prepare_splits
from hf_asr.inference.generate import generate_dataset, resolve_conditions
from hf_asr.models import get_family
from hf_asr.models.family import collator_for
from hf_asr.models.whisper_bank import WhisperStates, bank_shape, encoder_hash

pytestmark = pytest.mark.slow
FROZEN = ["freeze.groups=[encoder]", "model.window=thinned", "evaluation.window=thinned", "evaluation.baseline=false"]
# Writes a bank of 40 clips in shards of one clip, and is slow at it.
BUILDER = """
import sys, time
from hf_asr.features import bank
from hf_asr.models.whisper_bank import WhisperStates
encode = WhisperStates.__call__
def slowly(self, rows):
    time.sleep(0.1)
    return encode(self, rows)
WhisperStates.__call__ = slowly
bank.SHARD_BYTES = 1
from helpers.outcomes import recipe_main
recipe_main("finetune_seq2seq")(sys.argv[1:])
"""


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    model = make_tiny_whisper(tmp_path / "model", d_model=32)
    loud_whisper(model).save_pretrained(model)
    return tiny_yaml(tmp_path, model, make_tiny_corpus(tmp_path / "corpus", train=13, validation=5))


def test_two_processes_train_as_one_with_and_without_a_bank(project_root: Path, yaml: Path, tmp_path: Path) -> None:
    runs = {}
    for processes, bank in ((1, "off"), (2, "on"), (1, "on")):
        name, cache = f"{bank}_{processes}", f"features.cache_dir={tmp_path}/cache{processes}"
        batch = f"training.per_device_train_batch_size={4 // processes}"
        words = [f"experiment.name={name}", f"features.bank={bank}", cache, batch, *FROZEN]
        done = launch(project_root, processes, yaml, *words)
        assert done.returncode == 0, done.stderr[-3000:]
        runs[name] = tmp_path / "runs" / name
    for key in ("loss", "eval_loss"):
        expected = history(runs["off_1"], key)
        assert history(runs["on_2"], key) == pytest.approx(expected, abs=1e-3)
        assert history(runs["on_1"], key) == pytest.approx(expected, abs=1e-3)


def test_what_one_process_finds_damaged_no_other_goes_on_with(project_root: Path, yaml: Path, tmp_path: Path) -> None:
    """The only shard is the first process's to check."""
    words = ["features.bank=on", "training.per_device_train_batch_size=2", "training.max_steps=3", *FROZEN]
    for name in ("before", "after"):
        done = launch(project_root, 2, yaml, f"experiment.name={name}", *words)
        assert done.returncode == 0, done.stderr[-3000:]
        assert ("is damaged" in done.stderr) == (name == "after")
        (index,) = (tmp_path / "cache").glob("bank-train-*/index-00000.arrow")
        content = bytearray(index.read_bytes())
        content[len(content) // 2] ^= 1
        index.write_bytes(content)
    before, after = (history(tmp_path / "runs" / name, "loss") for name in ("before", "after"))
    assert before == after and len(before) == 3


def test_a_killed_building_goes_on(project_root: Path, yaml: Path, tmp_path: Path) -> None:
    paths = [str(project_root), str(project_root / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", BUILDER, "--config", str(yaml), "features.bank=on", *FROZEN]
    command += ["evaluation.batch_size=1", "training.max_steps=1"]
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(command, env=environment, stderr=log, stdout=subprocess.DEVNULL) as process,
    ):
        deadline = time.monotonic() + 240
        while len(list((tmp_path / "cache").glob("bank-train-*/states-*.json"))) < 3:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("bank-train-*/states-*.json")}
    again = ["experiment.name=again"]
    done = subprocess.run([*command, *again], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{len(there)} of 13 shards are there, going on" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in there} == there


@pytest.mark.parametrize(("window", "limit"), [("full", 12), ("thinned", 24)])
def test_real_speech_is_decoded_from_the_bank_as_from_features(
    shared_data: Path, tmp_path: Path, window: str, limit: int
) -> None:
    manifest = shared_data / "speechocean762_dev" / "manifest.tsv"
    config = {
        "experiment": {"name": "real"},
        "model": {"name_or_path": str(shared_data / "whisper"), "window": window},
        "data": {"corpus": "manifest", "path": str(manifest), "language": "en"},
        "features": {"cache_dir": str(tmp_path), "bank": "on"},
        "evaluation": {"window": window, "generation": {"max_new_tokens": 40, "no_repeat_ngram_size": 3}},
    }
    found: dict[str, list[str]] = {}
    (tmp_path / "real.yaml").write_text(json.dumps(config))
    arguments = load_arguments(
        [tmp_path / "real.yaml"], [f"data.limit={{test: {limit}}}", "data.splits.held_out={test: 0.5}"]
    )
    family = get_family(arguments.model)
    processor = family.load_processor(arguments, None)
    model: Any = family.load_model(arguments, processor)
    splits = build_splits(arguments.data, seed=42, names=("test",))
    encoder = family.make_encoder(processor, model.config, arguments)
    prepared = prepare_splits(splits, encoder, arguments, trained_on=())["test"]
    conditions = resolve_conditions(family, arguments, torch.device("cpu"))
    collate: Any = collator_for(family, processor, model, conditions.choice())
    banked = bank_split(
        prepared,
        WhisperStates(model, collate, None),
        shape=bank_shape(model, collate.padder),
        settings={"encoder": encoder_hash(model)},
        features=arguments.features,
        batch_size=8,
    )
    for name, split in (("features", prepared), ("bank", banked)):
        generated = generate_dataset(model, family, processor, split, conditions, progress=False)
        found[name] = [hypothesis.text for hypothesis in generated.hypotheses]
        print(f"{window} window, {name}: {generated.wall_seconds:.1f} s")
    differing = [pair for pair in zip(found["features"], found["bank"], strict=True) if pair[0] != pair[1]]
    size = sum(path.stat().st_size for path in banked.folder.glob("states-*.bin"))  # type: ignore[union-attr]
    clips = len(banked.rows)
    print(f"{len(differing)} of {clips} hypotheses differ, {size / clips:,.0f} bytes a clip: {differing}")
    assert len(differing) <= 0.1 * clips
