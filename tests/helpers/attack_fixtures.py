"""Fixtures of every attack: a tiny checkpoint, a healthy corpus, and a way in. A conftest imports them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.outcomes import Attack
from helpers.tiny_release import Release, make_release
from helpers.tiny_whisper import make_tiny_whisper


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper: a window of 4 s, a decoder of 128 positions, tokens for en, zh, de, es and ru."""
    return make_tiny_whisper(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def attack() -> Attack:
    """Recipes and verbs, with what they print caught."""
    return Attack()


@pytest.fixture
def release(tmp_path: Path, model: Path) -> Release:
    """A healthy Common Voice release, to be broken."""
    return make_release(tmp_path, model)
