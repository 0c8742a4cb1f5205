"""hf-asr doctor --fit-batch-seconds: a line for the YAML, or why there is none."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import yaml
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

from hf_asr.cli import doctor, fitting
from hf_asr.config.parser import load_arguments
from hf_asr.data.corpora import build_splits
from hf_asr.errors import UserError

MEMORY = "free_memory"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    manifest = make_tiny_corpus(folder / "corpus", train=6, validation=2, test=2)
    return tiny_yaml(folder, make_tiny_whisper(folder / "model"), manifest)


def with_memory(monkeypatch: pytest.MonkeyPatch, megabytes: float) -> None:
    monkeypatch.setattr(fitting, MEMORY, lambda on_cpu: ("a toy", int(megabytes * 2**20), 2**40))


def seconds_in(memory: float, config: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> int:
    with_memory(monkeypatch, memory)
    check = fitting.check_batch_seconds(load_arguments([str(config)], list(overrides)))
    assert check.ok, check
    return int(check.found.partition(";")[0].removeprefix("data.batch_seconds: "))


def test_more_memory_holds_more(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Six clips in windows of 4 s are 24 s.
    assert 4 <= seconds_in(2, config, monkeypatch) < seconds_in(60_000, config, monkeypatch) <= 25


def test_the_line_can_be_put_into_the_yaml(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_memory(monkeypatch, 60_000)
    monkeypatch.setattr("hf_asr.cli.preflight.check_run", lambda arguments: iter(()))
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    assert doctor.run(parser.parse_intermixed_args(["--config", str(config), "--fit-batch-seconds"])) == 0
    lines = capsys.readouterr().out.partition("for the YAML:\n")[2]
    assert "  # " in lines and " GiB (a toy; worst batches, forecast from one clip and two)" in lines
    assert lines.rstrip().endswith("all of train is one batch, take fewer for more steps")
    written = yaml.safe_load(lines)
    arguments = load_arguments([str(config)], [f"data.batch_seconds={written['data']['batch_seconds']}"])
    assert arguments.data.batch_seconds is not None and arguments.data.batch_seconds >= 4


def test_no_room_for_the_longest_clip_is_a_finding(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, 0.001)
    check = fitting.check_batch_seconds(load_arguments([str(config)], []))
    assert not check.ok and "longest clip (4.0 s, padded)" in check.expected and "max_seconds" in check.do


def test_without_a_run_or_of_a_stream() -> None:
    with pytest.raises(UserError, match="expected --config"):
        doctor.fit(None)


def test_windows_of_several_clips_have_all_their_labels(config: Path) -> None:
    """Six clips of two seconds together, each with up to 5 words: what a window holds, not what a clip does."""
    found = {}
    for pack in (False, True):
        arguments = load_arguments([str(config)], [f"data.pack={pack}", "data.pack_speakers=any"])
        split = build_splits(arguments.data, seed=42, names=("train",))["train"]
        needs, _ = fitting.load_needs(arguments, split)
        found[pack] = needs.clips
    most = {pack: max(len(clip.labels) for clip in clips) for pack, clips in found.items()}
    assert most[True] > 2 * most[False]
    assert {clip.padded for clip in found[True]} == {4.0} and max(clip.frames for clip in found[True]) > 200


def test_thinned_windows_of_several_clips_are_not_batched_by_seconds(config: Path) -> None:
    arguments = load_arguments([str(config)], ["data.pack=true", "model.window=thinned"])
    with pytest.raises(UserError, match=r"--fit-batch-seconds: expected model\.window full beside data\.pack, found"):
        fitting.check_batch_seconds(arguments)


def test_a_stream_has_no_lengths(config: Path) -> None:
    streamed = load_arguments([str(config)], ["data.streaming=true", "training.max_steps=2"])
    with pytest.raises(UserError, match=r"--fit-batch-seconds: expected .* lengths are known"):
        fitting.check_batch_seconds(streamed)
