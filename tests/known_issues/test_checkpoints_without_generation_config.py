"""A checkpoint without generation_config.json was trained to the end, and then refused when it was to be saved.

transformers marks a generation config made from config.json, and makes it of config.json again when it reads it, so
that language and task were lost. A damaged file was taken for a missing one, or ended in a traceback.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release

NAME = "generation_config.json"


@pytest.fixture
def checkpoint(model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be broken."""
    return Path(shutil.copytree(model, tmp_path / "checkpoint"))


def test_a_checkpoint_without_one_is_trained_and_saved(attack: Attack, release: Release, checkpoint: Path) -> None:
    (checkpoint / NAME).unlink()
    attack.enter("cached", release.yaml, checkpoint, f"model.name_or_path={checkpoint}").assert_done()
    saved = json.loads((release.yaml.parent / "runs" / "cached" / "best_checkpoint" / NAME).read_text())
    assert (saved["language"], saved["task"], saved["is_multilingual"]) == ("en", "transcribe", True)
    assert set(saved["lang_to_id"]) == {"<|en|>", "<|zh|>", "<|de|>", "<|es|>", "<|ru|>"}


@pytest.mark.parametrize("content", ["", "[1, 2", "[1, 2]"])
def test_a_damaged_one_is_told(attack: Attack, release: Release, checkpoint: Path, content: str) -> None:
    (checkpoint / NAME).write_text(content)
    outcome = attack.enter("cached", release.yaml, checkpoint, f"model.name_or_path={checkpoint}")
    outcome.assert_refused("model.name_or_path: expected a generation_config.json that can be read", str(checkpoint))
