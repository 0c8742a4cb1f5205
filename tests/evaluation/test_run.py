"""Scoring a split and the baseline: what is written, and when an earlier baseline is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from hf_asr.config.arguments import Arguments, EvaluationArguments, ExperimentArguments, ModelArguments
from hf_asr.errors import UserError
from hf_asr.evaluation import run
from hf_asr.evaluation.run import score_baseline, score_split
from hf_asr.features.cache import PreparedSplit
from hf_asr.inference.generate import Conditions, Generated
from hf_asr.models import FAMILIES
from hf_asr.utterance import Drops, Hypothesis

CONDITIONS = Conditions("full", "float32", 2, {"num_beams": 1})
WRITTEN = {"a": "one two", "b": "three", "c": "four"}


def prepared_split(ids: Sequence[str]) -> PreparedSplit:
    columns = {
        "id": list(ids),
        "text": ["one two"] * len(ids),
        "speaker": ["s"] * len(ids),
        "duration": [9.0] * len(ids),
    }
    drops = Drops({"broken_audio": [("torn", "no audio")]})
    return PreparedSplit("test", [{}] * len(ids), datasets.Dataset.from_dict(columns), drops)  # type: ignore[arg-type]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Decode without a model: clip "d" cannot be; the list has the ids of each call."""
    calls: list[list[str]] = []

    def decode(model: Any, family: Any, processor: Any, prepared: PreparedSplit, conditions: Conditions) -> Generated:
        calls.append(prepared.column("id"))
        found = [Hypothesis(id, WRITTEN[id]) for id in calls[-1] if id in WRITTEN]
        drops = Drops({"too_long": [("d", "31 s")]} if "d" in calls[-1] else {})
        return Generated(found, [1.5] * len(found), 0.5, drops)

    monkeypatch.setattr(run, "generate_dataset", decode)
    return calls


def arguments(**evaluation: Any) -> Arguments:
    return Arguments(ExperimentArguments("x"), ModelArguments("m"), evaluation=EvaluationArguments(**evaluation))


def baseline(folder: Path, ids: str = "abcd", conditions: Conditions = CONDITIONS, **evaluation: Any) -> Any:
    prepared = {"test": prepared_split(ids)}
    return score_baseline(None, FAMILIES["whisper"], None, prepared, conditions, arguments(**evaluation), folder)  # type: ignore[arg-type]


def test_what_is_scored_and_written(tmp_path: Path, decoded: list[list[str]]) -> None:
    results = score_split(
        None, FAMILIES["whisper"], None, prepared_split("abcd"), CONDITIONS, arguments(), tmp_path,  # type: ignore[arg-type]
        about={"model": "m"}, left_out=Drops({"too_short": [("e", ""), ("f", "")]}),
    )  # fmt: skip
    assert json.loads((tmp_path / "test_results.json").read_text()) == results
    # "one two" is right, "three" and "four" each are a substitution and a deletion.
    assert (results["wer"], results["hits"], results["num_utterances"]) == (4 / 6, 2, 3)
    assert results["skipped"] == {"broken_audio": 1, "too_long": 1, "too_short": 2}
    # The seconds are those that were decoded, not those of the corpus.
    assert (results["seconds_of_audio"], results["rtfx"]) == (4.5, 9.0)
    assert {name: results[name] for name in CONDITIONS.as_dict()} == CONDITIONS.as_dict()
    assert (results["model"], results["normalizer"], results["split"]) == ("m", "basic", "test")
    assert (tmp_path / "test_predictions.csv").is_file()


def test_predictions_are_left_out_when_nobody_asks(tmp_path: Path, decoded: list[list[str]]) -> None:
    score_split(
        None, FAMILIES["whisper"], None, prepared_split("ab"), CONDITIONS, arguments(), tmp_path,  # type: ignore[arg-type]
        save_predictions=False, detailed_analysis=False,
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["test_results.json"]


def test_nothing_but_broken_clips_is_an_error(tmp_path: Path, decoded: list[list[str]]) -> None:
    with pytest.raises(UserError):
        score_split(None, FAMILIES["whisper"], None, prepared_split("d"), CONDITIONS, arguments(), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_no_baseline_when_switched_off(tmp_path: Path, decoded: list[list[str]]) -> None:
    assert baseline(tmp_path, baseline=False) is None
    assert decoded == []


def test_a_resumed_run_keeps_its_baseline(tmp_path: Path, decoded: list[list[str]]) -> None:
    first = baseline(tmp_path)
    assert baseline(tmp_path) == first
    assert len(decoded) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": "abd"},
        {"ids": "bacd"},
        {"conditions": replace(CONDITIONS, batch_size=3)},
        {"conditions": replace(CONDITIONS, generation={})},
        {"normalizer": "none"},
    ],
)
def test_a_baseline_of_something_else_is_made_again(
    tmp_path: Path, decoded: list[list[str]], changes: dict[str, Any]
) -> None:
    baseline(tmp_path)
    again = baseline(tmp_path, **changes)
    assert len(decoded) == 2
    assert json.loads((tmp_path / "baseline" / "test_results.json").read_text()) == again
