"""The table of bad inputs, through the recipe: one message and exit code 2, or the row skipped, counted and named."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.held_lock import held_by_another
from helpers.tiny_corpus import tone
from helpers.tiny_whisper import make_tiny_whisper

import hf_asr.features.cache
from hf_asr.cli import main as hf_asr_main
from hf_asr.cli.outcome import run_recipe
from hf_asr.data.audio import SAMPLE_RATE, encode

HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes"
GOOD = [f"s{i}\tgood{i}.mp3\tsome words {i}\t2\t0" for i in range(4)]

Recipe = Callable[[Sequence[str]], None]


@pytest.fixture(scope="session")
def recipe(project_root: Path) -> Recipe:
    spec = importlib.util.spec_from_file_location("finetune_seq2seq", project_root / "recipes/finetune_seq2seq.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Recipe = module.main
    return main


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual Whisper with a 4-second window."""
    return make_tiny_whisper(tmp_path_factory.mktemp("model"))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release of four good clips in train, dev and test."""
    folder = tmp_path / "cv" / "ru"
    (folder / "clips").mkdir(parents=True)
    for index in range(4):
        (folder / "clips" / f"good{index}.mp3").write_bytes(encode(tone(index, 1.0), SAMPLE_RATE, "mp3"))
    for table in ("train", "dev", "test"):
        write_table(folder, table, GOOD)
    return folder


def write_table(folder: Path, table: str, rows: Sequence[str], header: str = HEADER, end: str = "\n") -> None:
    (folder / f"{table}.tsv").write_bytes("".join(line + end for line in (header, *rows)).encode())


def start(recipe: Recipe, release: Path, model: Path, *changes: str) -> tuple[int, Path]:
    """Run two clips a step for one step; return the exit code and the run folder."""
    folder = release.parents[1]
    sections = {
        "experiment": {"name": "x", "output_dir": str(folder / "runs")},
        "model": {"name_or_path": str(model)},
        "data": {"corpus": "common_voice", "path": str(release), "language": "ru", "max_seconds": 4},
        "features": {"cache_dir": str(folder / "features"), "num_proc": 1},
        "training": {"max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True, "eval_strategy": "no"},
        "evaluation": {"baseline": False, "generation": {"max_new_tokens": 3}},
    }
    (folder / "x.yaml").write_text(json.dumps(sections))
    return run_recipe(recipe, ["--config", str(folder / "x.yaml"), *changes]), folder / "runs" / "x"


def message(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the last line on stderr, which is the message; nothing there may be a traceback."""
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    return shown.strip().splitlines()[-1]


BAD_TABLES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing file": (lambda ru: (ru / "train.tsv").unlink(), "train"),
    "directory for a file": (lambda ru: ((ru / "train.tsv").unlink(), (ru / "train.tsv").mkdir()), "train.tsv"),
    "empty table": (lambda ru: (ru / "train.tsv").write_text(""), "train.tsv"),
    "header only": (lambda ru: write_table(ru, "train", []), "train.tsv"),
    "no sentence column": (lambda ru: write_table(ru, "train", GOOD, HEADER.replace("sentence", "text")), "sentence"),
    "wrong delimiter": (
        lambda ru: write_table(ru, "train", [r.replace("\t", ",") for r in GOOD], HEADER.replace("\t", ",")),
        "comma",
    ),
    "missing release": (lambda ru: shutil.rmtree(ru), "ru"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_cannot_be_read_is_one_message(
    recipe: Recipe, release: Path, model: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, words = BAD_TABLES[name]
    spoil(release)
    code, run = start(recipe, release, model)
    last = message(capsys)
    assert code == 2 and words in last
    assert not run.exists()


def test_a_folder_that_another_run_trains_into_is_left_alone(
    recipe: Recipe, release: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = release.parents[1] / "runs" / "x"
    run.mkdir(parents=True)
    with held_by_another(run):
        code, _ = start(recipe, release, model)
        assert code == 2 and "expected a run folder that no other program trains into" in message(capsys)
        assert [path.name for path in run.iterdir()] == [".lock"]
    assert start(recipe, release, model)[0] == 0


@pytest.mark.parametrize("name", ["BOM", "CRLF", "quotes"])
def test_a_table_that_an_editor_touched_is_read_whole(recipe: Recipe, release: Path, model: Path, name: str) -> None:
    rows = [r.replace("some", 'some "quoted') for r in GOOD] if name == "quotes" else GOOD
    header = "\ufeff" + HEADER if name == "BOM" else HEADER
    write_table(release, "test", rows, header, "\r\n" if name == "CRLF" else "\n")
    code, run = start(recipe, release, model)
    results = json.loads((run / "test" / "test_results.json").read_text())
    assert code == 0 and results["num_utterances"] == 4 and results["skipped"] == {}


def spoilt_clips(folder: Path) -> dict[str, bytes]:
    """Return the bytes of clips that cannot be used, by name."""
    whole = encode(tone(9, 2.0), SAMPLE_RATE, "mp3")
    return {
        "truncated.mp3": whole[: len(whole) // 2 + 7],
        "zero.wav": encode(np.zeros(0, np.float32), SAMPLE_RATE, "wav"),
        "text.mp3": b"this is no audio at all\n" * 50,
        "nan.wav": encode(np.full(SAMPLE_RATE, np.nan, np.float32), SAMPLE_RATE, "wav_float"),
        "long.mp3": encode(np.tile(tone(1, 1.0), 31), SAMPLE_RATE, "mp3"),
    }


@pytest.mark.parametrize("way", ["features.cache=true", "features.cache=false"])
def test_rows_and_clips_that_cannot_be_used_are_skipped_counted_and_named(
    recipe: Recipe, release: Path, model: Path, way: str
) -> None:
    clips = spoilt_clips(release)
    for name, data in clips.items():
        (release / "clips" / name).write_bytes(data)
    os.symlink("loop.mp3", release / "clips" / "loop.mp3")
    eight = np.repeat(tone(2, 1.0)[:, None], 8, axis=1)
    (release / "clips" / "eight.wav").write_bytes(encode(eight, SAMPLE_RATE, "wav"))
    bad = [f"s\t{name}\twords\t2\t0" for name in (*clips, "loop.mp3", "absent.mp3", "../../outside.mp3")]
    bad += ["s\tnul.mp3\twith\0nul\t2\t0", "s\ttoo-few", f"s\tgood0.mp3\t{'word ' * 200}\t2\t0"]
    shutil.copyfile(release / "clips" / "good0.mp3", release.parents[1] / "outside.mp3")
    write_table(release, "test", [*GOOD[1:], "s\teight.wav\teight channels\t2\t0", *bad])
    code, run = start(recipe, release, model, way)
    results = json.loads((run / "test" / "test_results.json").read_text())
    # The text that is too long to be learnt is no reason not to score its clip.
    assert code == 0 and results["num_utterances"] == 5
    named = {id for items in results["skipped_items"].values() for id, _ in items}
    assert sum(results["skipped"].values()) == len(bad) - 1
    assert {"truncated", "zero", "text", "nan", "long", "loop", "absent", "outside"} <= named and "good0" not in named
    log = (run / "training.log").read_text()
    assert all(name in log for name in ("truncated", "zero", "nan", "long", "loop", "absent", "outside"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.language=russian language"], "data.language"),
        (["data.language=sah", "model.language_token=xx"], "language_token"),
        (["model.name_or_path=openai/whisper-small"], "openai/whisper-small"),
        (["data.on_bad_clip=explode"], "on_bad_clip"),
    ],
)
def test_settings_that_cannot_be(
    recipe: Recipe, release: Path, model: Path, changes: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = start(recipe, release, model, *changes)
    assert code == 2 and words in message(capsys) and not run.exists()


def test_a_full_disk_in_the_cache_step_leaves_no_cache(
    recipe: Recipe, release: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hf_asr.features.cache, "_write_manifest", full)
    code, _ = start(recipe, release, model)
    assert code == 2 and "features.cache_dir" in message(capsys)
    assert not [path for path in (release.parents[1] / "features").iterdir() if path.is_dir()]


def test_a_cache_that_cannot_be_written(
    recipe: Recipe, release: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (release.parents[1] / "features").write_text("a file stands where the cache should be")
    code, _ = start(recipe, release, model)
    assert code == 2 and "features.cache_dir" in message(capsys)


def test_doctor_lists_texts_that_do_not_fit_their_clips(
    release: Path, model: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"s{i}\tgood{i % 4}.mp3\tsome words {i}\t2\t0" for i in range(4)]
    write_table(release, "train", [*rows[1:], f"s9\tgood0.mp3\t{'far too many words for a second ' * 8}\t2\t0"])
    start(recipe, release, model, "--dry-run")
    code = hf_asr_main(["doctor", "--config", str(release.parents[1] / "x.yaml")])
    assert code == 1 and "good0" in capsys.readouterr().out
