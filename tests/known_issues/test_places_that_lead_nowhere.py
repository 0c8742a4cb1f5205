"""An output that cannot be made ended in a traceback, after all the work."""

from __future__ import annotations

import errno
import io
import logging
import os
from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release

from hf_asr.cli.outcome import INTERRUPTED, run_recipe
from hf_asr.training.run import RunLog


@pytest.mark.parametrize("place", ["a-file/out.txt", "loop/out.txt", f"{'n' * 300}.txt"])
def test_transcribe(attack: Attack, release: Release, place: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    clip = release.folder / "clips" / "c0.wav"
    words = ("--model", release.model, "--input", clip, "--output", tmp_path / place)
    attack.verb("transcribe", *words).assert_refused(
        "expected a file that can be read and written", "use another place"
    )


def test_demo(attack: Attack, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = attack.verb("demo", "--output-dir", tmp_path / "file" / "run")
    assert outcome.code == 2 and "Traceback" not in outcome.err and str(tmp_path / "file") in outcome.last


@pytest.mark.parametrize("key", ["experiment.output_dir", "features.cache_dir"])
def test_doctor_sees_a_file_where_a_folder_should_be(
    attack: Attack, release: Release, key: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    outcome = attack.verb("doctor", "--config", release.yaml, f"{key}={tmp_path / 'file' / 'folder'}")
    assert outcome.code == 1
    assert f"and {tmp_path / 'file'} is a file" in outcome.out.replace("\n", "")


class FullDisk(io.StringIO):
    """A stream without room."""

    def write(self, text: str) -> int:
        """Fail as a full disk does."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_whose_disk_is_full_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """logging prints a traceback for every line otherwise."""
    log = RunLog(tmp_path / "training.log")
    log.setStream(FullDisk())
    with pytest.raises(OSError, match="No space left"):
        log.handle(logging.makeLogRecord({"msg": "step 1"}))
    assert "Traceback" not in capsys.readouterr().err


def interrupted(words: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_recipe_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recipe(interrupted, []) == INTERRUPTED == 130
    assert "training.resume_from_checkpoint=true" in capsys.readouterr().err
