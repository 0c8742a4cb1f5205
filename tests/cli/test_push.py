"""hf-asr push: the list of files, and the push itself through the command line against a stand-in of the Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from helpers.finished_run import make_finished_run

from hf_asr.cli import push
from hf_asr.errors import UserError


def parse(*words: str) -> argparse.Namespace:
    """Parse the words as the verb does."""
    parser = argparse.ArgumentParser()
    push.add_arguments(parser)
    return parser.parse_args(words)


def test_a_dry_run_lists_files_and_sizes_and_needs_neither_token_nor_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    run_dir = make_finished_run(tmp_path / "tiny")
    assert push.run(parse(str(run_dir), "--repo", "org/tiny", "--dry-run")) == 0
    printed = capsys.readouterr().out
    size = (run_dir / "best_checkpoint" / "model.safetensors").stat().st_size
    assert f"{size:,}" in printed
    assert "README.md" in printed
    assert "7 files" in printed
    assert "nothing was sent" in printed
    assert "optimizer.pt" not in printed


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finished run"):
        push.run(parse(str(tmp_path), "--repo", "org/tiny", "--dry-run"))


def test_the_repository_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        parse(str(tmp_path))
