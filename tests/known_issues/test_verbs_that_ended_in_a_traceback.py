"""Options and files that ended in a traceback, or were taken though they can mean nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.finished_run import make_finished_run
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.cli import main
from hf_asr.cli.profile import seconds, sizes

WORDS = ["profile", "--model", "config:w2v-bert-mini", "--batch-sizes", "1", "--no-operators"]
ROW = {
    "model": "a",
    "variant": "sdpa",
    "device": "cpu",
    "dtype": "float32",
    "duration": 5.0,
    "batch_size": 1,
    "status": "measured",
    "n": 1,
    "latency_seconds": 1.0,
    "latency_quartiles": [1.0, 1.0],
}


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a verb that refuses, and return what it says."""
    try:
        code = main(words)
    except SystemExit as ended:  # argparse's own
        code = ended.code  # type: ignore[assignment]
    assert code == 2
    return capsys.readouterr().err


def test_brackets_without_an_end_are_text_to_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").write_text('{"a":' * 50_000)
    assert main(["score", "--json", *(f"--{side}={tmp_path / 'texts'}" for side in ("references", "hypotheses"))]) == 0
    assert json.loads(capsys.readouterr().out)["wer"] == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "-1"], "--seed: expected 0 or more, found -1"),
        (["--threads", "0"], "--threads: expected 1 or more, found 0"),
        (["--durations", "1e9"], "expected at most 3600 seconds, found 1e+09"),
    ],
    ids=["seed", "threads", "durations"],
)
def test_options_of_profile(more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in told([*WORDS, *more, "--output-dir", str(tmp_path)], capsys)


def test_more_tokens_than_a_decoder_has_positions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tiny_whisper(tmp_path / "model")
    words = ["profile", "--model", str(tmp_path / "model"), "--language", "en", "--tokens", "129"]
    assert "--tokens: expected at most 128, the positions of " in told([*words, "--output-dir", str(tmp_path)], capsys)


def test_a_cell_is_measured_once_however_often_it_is_named() -> None:
    assert (sizes("2,1,2"), seconds("5,5.0,1")) == ([2, 1], [5.0, 1.0])


@pytest.mark.parametrize("change", [{"latency_seconds": "x"}, {"n": None, "latency_quartiles": None}, {"wer": [1]}])
def test_what_looks_like_rows_is_not_compared(
    change: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {name: value for name, value in {**ROW, **change}.items() if value is not None}
    for name, row in (("a.json", ROW), ("b.json", other)):
        (tmp_path / name).write_text(json.dumps([row]))
    said = told(["profile", "--compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")], capsys)
    assert "expected a profile.json (a list of rows), found something else in" in said and "b.json" in said


@pytest.mark.parametrize("repo", ["", "../x", "a/b/c", "me/", "me/x y", "me/a--b"])
def test_a_name_that_no_repository_can_have(repo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["push", str(make_finished_run(tmp_path / "run")), "--repo", repo, "--dry-run"]
    assert f"expected --repo ORG/NAME, found {repo!r}: " in told(words, capsys)


@pytest.mark.parametrize("name", ["test/test_results.json", "config.yaml", "best_checkpoint/config.json"])
def test_a_file_of_a_run_that_was_cut(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_finished_run(tmp_path / "run")
    (run / name).write_text("{")
    assert f"expected a whole file, found {run / name}" in told(
        ["push", str(run), "--repo", "me/x", "--dry-run"], capsys
    )
