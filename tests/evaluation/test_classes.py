"""Scores of classes and numbers against values worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hf_asr.errors import UserError
from hf_asr.evaluation.classes import (
    accuracy,
    class_scores,
    confusion_matrix,
    macro_f1,
    number_scores,
    pool_folds,
    r2,
    read_predictions,
    recalls,
    rmse,
    summarize_classes,
    summarize_numbers,
    write_scores,
)
from hf_asr.evaluation.scoring import validation_scores
from hf_asr.utterance import Drops, Hypothesis

TRUTH = ["a", "a", "a", "b", "b", "c"]
SAID = ["a", "a", "b", "b", "c", "c"]
SPEAKERS = ["s1", "s1", "s2", "s2", "s3", "s3"]
CONDITIONS = {"window": "full", "dtype": "float32", "batch_size": 2, "generation": {}}


def test_one_matrix_gives_everything() -> None:
    matrix = confusion_matrix(TRUTH, SAID, ["a", "b", "c"])
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert accuracy(matrix) == 4 / 6
    assert recalls(matrix).tolist() == [2 / 3, 1 / 2, 1]
    # F1: a 2 * 2 / (2 + 3), b 2 * 1 / (2 + 2), c 2 * 1 / (2 + 1)
    assert macro_f1(matrix) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_a_class_that_no_clip_has_counts_in_no_mean() -> None:
    matrix = confusion_matrix(["a", "a"], ["a", "b"], ["a", "b"])
    assert macro_f1(matrix) == pytest.approx(2 / 3)
    assert math.isnan(recalls(matrix)[1])


def test_numbers_by_hand() -> None:
    truth, said = np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 4.0])
    assert rmse(truth, said) == pytest.approx(math.sqrt(5 / 3))
    assert r2(truth, said) == pytest.approx(1 - 5 / 14)
    assert r2(np.ones(3), said) is None
    assert number_scores(["1", "2", "6"], ["2", "2", "4"]) == {"rmse": rmse(truth, said), "r2": r2(truth, said)}


def test_results_of_classes() -> None:
    results = summarize_classes(TRUTH, SAID, SPEAKERS, guess="a", classes=["a", "b", "c", "d"])
    assert (results["majority_class"], results["majority_accuracy"]) == ("a", 0.5)
    assert (results["interval_by"], results["num_speakers"]) == ("speaker", 3)
    assert results["recall"] == {"a": 2 / 3, "b": 0.5, "c": 1.0, "d": None}
    assert results["clips_per_class"] == {"a": 3, "b": 2, "c": 1, "d": 0}
    low, high = results["accuracy_interval"]
    # Speakers are right in 2, 1 and 1 of their 2 clips: draws are sums of three of 1, 1/2, 1/2.
    assert (low, high) == (0.5, pytest.approx(1.0))
    assert json.loads(json.dumps(results, allow_nan=False)) == results


@pytest.mark.parametrize("speakers", [[""] * 6, ["one"] * 6, ["", *SPEAKERS[1:]]])
def test_without_speakers_clips_are_drawn(speakers: list[str]) -> None:
    assert summarize_classes(TRUTH, SAID, speakers, guess="a")["interval_by"] == "utterance"


def test_the_interval_is_that_of_a_share() -> None:
    truth = ["a"] * 400
    said = ["a"] * 300 + ["b"] * 100
    low, high = summarize_classes(truth, said, [""] * 400, guess="a")["accuracy_interval"]
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == (pytest.approx(0.75 - half, abs=0.01), pytest.approx(0.75 + half, abs=0.01))


def test_results_of_numbers() -> None:
    truth, said = ["1", "2", "6", "3"], ["2", "2", "4", "3"]
    results = summarize_numbers(truth, said, ["s", "s", "t", "t"], guess="3")
    assert results["rmse_of_mean"] == pytest.approx(math.sqrt((4 + 1 + 9 + 0) / 4))
    assert results["rmse_interval"][0] <= results["rmse"] <= results["rmse_interval"][1]
    assert results["r2"] == pytest.approx(1 - 5 / 14)
    json.dumps(summarize_numbers(["1", "1"], ["1", "2"], ["", ""], guess="1"), allow_nan=False)


def write(folder: Path, ids: list[str], truth: list[str], said: list[str], **options: Any) -> dict[str, Any]:
    rows = {"id": ids, "label": truth, "duration": [1.0] * len(ids), "speaker": [f"s{id}" for id in ids]}
    values = {"scoring": "classes", "guess": "a", "skipped": Drops(), "conditions": CONDITIONS, "wall_seconds": 2.0}
    hypotheses = [Hypothesis(id, text) for id, text in zip(ids, said, strict=True)]
    return write_scores(folder, rows=rows, hypotheses=hypotheses, **(values | options))


def test_files(tmp_path: Path) -> None:
    results = write(tmp_path, ["1", "2"], ["a", "b"], ["a", "a"], about={"model": "m"})
    assert json.loads((tmp_path / "test_results.json").read_text()) == results
    assert (results["rtfx"], results["model"], results["split"]) == (1.0, "m", "test")
    rows = read_predictions(tmp_path)
    assert [(row["id"], row["reference"], row["hypothesis"], row["correct"]) for row in rows] == [
        ("1", "a", "a", "1"),
        ("2", "b", "a", "0"),
    ]
    write(tmp_path / "n", ["1", "2"], ["1", "2.5"], ["1", "2"], scoring="numbers", guess="1.75")
    assert [row["error"] for row in read_predictions(tmp_path / "n")] == ["0.0", "-0.5"]


def test_folds_are_scored_as_one_set(tmp_path: Path) -> None:
    write(tmp_path / "0", ["1", "2"], ["a", "b"], ["a", "a"], guess="a")
    write(tmp_path / "1", ["3", "4"], ["a", "b"], ["a", "b"], guess="b")
    pooled = pool_folds([tmp_path / "0", tmp_path / "1"])
    assert (pooled["accuracy"], pooled["majority_accuracy"], pooled["num_speakers"]) == (0.75, 0.5, 4)
    with pytest.raises(UserError, match="test each clip once"):
        pool_folds([tmp_path / "0", tmp_path / "0"])
    with pytest.raises(UserError, match="found none"):
        pool_folds([tmp_path / "2"])


def test_validation_scores_by_kind() -> None:
    assert validation_scores("classes", TRUTH, SAID, "basic") == class_scores(TRUTH, SAID)
    assert set(validation_scores("numbers", ["1", "2"], ["1", "1"], "basic")) == {"rmse", "r2"}
    assert validation_scores("words", ["one two"], ["one"], "basic")["wer"] == 0.5
