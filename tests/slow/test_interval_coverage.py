"""Nominal 95 % intervals by speaker hold the truth within 1.5 points, and with five speakers they do not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

REPETITIONS = 800
# Two standard errors of a coverage of 95 % in so many repetitions.
CHANCE = 0.0154


@pytest.fixture(scope="module")
def program(project_root: Path) -> ModuleType:
    """The benchmark that writes the table of docs/evidence.md."""
    spec = importlib.util.spec_from_file_location(
        "interval_coverage", project_root / "benchmarks" / "interval_coverage.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["interval_coverage"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("utterances", "speakers"), [(50, 10), (100, 20), (500, 100), (2000, 400), (2000, 100)])
def test_intervals_by_speaker_hold_the_truth(utterances: int, speakers: int, program: ModuleType) -> None:
    by_speaker, plain, by_utterance, _ = program.coverage(utterances, speakers, REPETITIONS)
    assert abs(by_speaker - 0.95) <= 0.015 + CHANCE
    # What the expanded interval is for, and why speakers are drawn.
    assert by_utterance < plain <= by_speaker


def test_five_speakers_are_too_few(program: ModuleType) -> None:
    by_speaker, plain, _, _ = program.coverage(50, 5, REPETITIONS)
    assert plain < 0.85
    assert plain < by_speaker < 0.935


def test_a_gain_of_two_points_is_seen_with_as_many_utterances_as_said(program: ModuleType) -> None:
    assert program.power(program.needed(0.02), 0.02, 200) >= 0.7
