"""Scores of classifiers and regressors from the names or numbers that they wrote, with intervals over speakers.

Accuracy, recall and F1 come from one confusion matrix of the whole set, R2 and RMSE from sums over it; nothing is
averaged over batches or clips. For intervals, whole speakers are drawn with replacement where every clip's speaker is
known and there are at least two, else clips (see :mod:`hf_asr.evaluation.intervals`), and each draw is scored anew.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_asr.errors import UserError
from hf_asr.evaluation.intervals import LEVEL, SAMPLES, known_speakers, percentile_interval
from hf_asr.evaluation.report import PREDICTIONS, RESULTS, ScoredRow, join_rows, replace_file, speed
from hf_asr.utterance import Drops, Hypothesis, Seconds

Floats = NDArray[np.float64]
COLUMNS = ("id", "reference", "hypothesis", "correct", "duration", "speaker")
NUMBER_COLUMNS = ("id", "reference", "hypothesis", "error", "duration", "speaker")


def confusion_matrix(references: Sequence[str], hypotheses: Sequence[str], classes: Sequence[str]) -> Floats:
    """Return how often each class (row) was called each class (column)."""
    return _matrix(_codes(references, hypotheses, classes), len(classes), None)


def accuracy(matrix: Floats) -> float:
    """Return the share of clips whose class was named."""
    return float(np.trace(matrix) / matrix.sum())


def recalls(matrix: Floats) -> Floats:
    """Return each class's share of clips that were named rightly; nan for a class without clips."""
    totals = matrix.sum(1)
    return np.divide(np.diag(matrix), totals, out=np.full(len(totals), np.nan), where=totals > 0)


def macro_f1(matrix: Floats) -> float:
    """Return the mean F1 of the classes that have clips; F1 = 2 tp / (2 tp + fp + fn)."""
    right, named, there = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    present = there > 0
    return float(np.mean(2 * right[present] / (named[present] + there[present])))


def rmse(references: Floats, hypotheses: Floats) -> float:
    """Return the root of the mean squared error, in the labels' units."""
    return math.sqrt(float(np.mean((references - hypotheses) ** 2)))


def r2(references: Floats, hypotheses: Floats) -> float | None:
    """Return 1 - squared errors / squared distances from the references' mean; None where those are all alike."""
    spread = float(((references - references.mean()) ** 2).sum())
    return None if spread == 0 else 1 - float(((references - hypotheses) ** 2).sum()) / spread


def class_scores(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """Return accuracy and macro F1, for validation."""
    matrix = confusion_matrix(references, hypotheses, sorted({*references, *hypotheses}))
    return {"accuracy": accuracy(matrix), "macro_f1": macro_f1(matrix)}


def number_scores(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """Return RMSE, and R2 where it is defined, for validation."""
    truth, said = _floats(references), _floats(hypotheses)
    explained = r2(truth, said)
    return {"rmse": rmse(truth, said)} | ({} if explained is None else {"r2": explained})


def summarize_classes(
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str],
    *,
    guess: str,
    classes: Sequence[str] = (),
    seed: int = 42,
) -> dict[str, Any]:
    """Return what test_results.json holds of a classifier.

    Args:
        references: True classes.
        hypotheses: What was named.
        speakers: Speaker of each clip, empty where unknown.
        guess: The class that is named without listening: train's commonest.
        classes: Classes in the order of the matrix; those that only stand in the clips follow.
        seed: Seed of the intervals.
    """
    names = [*classes, *sorted({*references, *hypotheses} - {*classes})]
    codes = _codes(references, hypotheses, names)
    matrix = _matrix(codes, len(names), None)
    groups, by = _units(speakers, len(references))
    draws = [_matrix(codes, len(names), weights) for weights in _drawn_weights(groups, seed)]
    counts = {name: int(total) for name, total in zip(names, matrix.sum(1), strict=True)}
    return {
        "accuracy": accuracy(matrix),
        "accuracy_interval": _interval([accuracy(draw) for draw in draws]),
        "macro_f1": macro_f1(matrix),
        "macro_f1_interval": _interval([macro_f1(draw) for draw in draws]),
        "interval_by": by,
        "majority_class": guess,
        "majority_accuracy": counts.get(guess, 0) / len(references),
        "classes": names,
        "clips_per_class": counts,
        "recall": {
            name: None if math.isnan(value) else value
            for name, value in zip(names, recalls(matrix).tolist(), strict=True)
        },
        "confusion_matrix": matrix.astype(int).tolist(),
        "num_utterances": len(references),
        "num_speakers": known_speakers(speakers) or None,
    }


def summarize_numbers(
    references: Sequence[str], hypotheses: Sequence[str], speakers: Sequence[str], *, guess: str, seed: int = 42
) -> dict[str, Any]:
    """Return what test_results.json holds of a regressor; ``guess`` is train's mean."""
    truth, said = _floats(references), _floats(hypotheses)
    groups, by = _units(speakers, len(references))
    draws = list(_drawn_weights(groups, seed))
    whole = r2(truth, said)
    return {
        "rmse": rmse(truth, said),
        "rmse_interval": _interval([_weighted_rmse(truth, said, weights) for weights in draws]),
        "r2": whole,
        "r2_interval": None if whole is None else _interval([_weighted_r2(truth, said, w) for w in draws]),
        "interval_by": by,
        "mean_of_train": float(guess),
        "rmse_of_mean": rmse(truth, np.full(len(truth), float(guess))),
        "num_utterances": len(references),
        "num_speakers": known_speakers(speakers) or None,
    }


def write_scores(
    directory: str | Path,
    *,
    scoring: str,
    rows: Mapping[str, Sequence[Any]],
    hypotheses: Sequence[Hypothesis],
    skipped: Drops,
    conditions: Mapping[str, Any],
    wall_seconds: Seconds | None,
    guess: str,
    classes: Sequence[str] = (),
    split: str = "test",
    seed: int = 42,
    save_predictions: bool = True,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a split of classes or numbers and write its results, and its predictions when wanted.

    Args:
        directory: Folder of the two files, made when missing.
        scoring: ``classes`` or ``numbers``.
        rows: Columns ``id``, ``label``, ``duration`` (seconds) and ``speaker`` of the split.
        hypotheses: One for each clip that could be prepared; joined by id.
        skipped: What was left out of the split and why.
        conditions: Decoding conditions; their keys stand beside the others.
        wall_seconds: Time the decoding took; None where it is unknown.
        guess: What is said without listening: train's commonest class, or its mean.
        classes: The model's classes.
        split: Name of the split.
        seed: Seed of the intervals.
        save_predictions: Whether to write ``test_predictions.csv``.
        about: More keys to store.

    Returns:
        What ``test_results.json`` holds. Rates are fractions.

    Raises:
        UserError: The folder cannot be written.
    """
    scored = join_rows({**rows, "text": rows["label"]}, hypotheses)
    columns = [row.reference for row in scored], [row.hypothesis for row in scored], [row.speaker for row in scored]
    if scoring == "classes":
        results = summarize_classes(*columns, guess=guess, classes=classes, seed=seed)
    else:
        results = summarize_numbers(*columns, guess=guess, seed=seed)
    results |= speed(scored, wall_seconds)
    results |= {"skipped": skipped.counts(), "skipped_items": skipped.to_dict(), "split": split, "seed": seed}
    results |= {**conditions, **(about or {})}
    folder = Path(directory)
    if save_predictions:
        replace_file(folder / PREDICTIONS, _predictions(scored, scoring))
    replace_file(folder / RESULTS, json.dumps(results, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    return results


def read_predictions(directory: str | Path) -> list[dict[str, str]]:
    """Read ``test_predictions.csv`` of a classifier or regressor.

    Raises:
        UserError: There is none, or it is that of a model that writes words.
    """
    path = Path(directory) / PREDICTIONS
    if not path.is_file():
        raise UserError(f"expected {PREDICTIONS} in {directory}, found none; score that split and keep its predictions")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) not in (COLUMNS, NUMBER_COLUMNS):
            raise UserError(f"expected the columns {', '.join(COLUMNS)} in {path}, found {reader.fieldnames}")
        return list(reader)


def pool_folds(directories: Sequence[str | Path], *, seed: int = 42) -> dict[str, Any]:
    """Score the test clips of several folds as one set: each clip by the model that had not heard its speaker.

    Args:
        directories: ``test`` folders of the folds' runs.
        seed: Seed of the intervals.

    Returns:
        The keys of :func:`summarize_classes`; ``majority_accuracy`` is that of each fold's own guess.

    Raises:
        UserError: A folder has no predictions, or a clip stands in two of them.
    """
    rows, right_guesses = list[dict[str, str]](), 0
    for directory in directories:
        fold = read_predictions(directory)
        guess = json.loads((Path(directory) / RESULTS).read_text("utf-8"))["majority_class"]
        right_guesses += sum(row["reference"] == guess for row in fold)
        rows += fold
    ids = [row["id"] for row in rows]
    if len(set(ids)) < len(ids):
        raise UserError("expected folds that test each clip once, found some twice: give folders of different speakers")
    columns = ([row[name] for row in rows] for name in ("reference", "hypothesis", "speaker"))
    pooled = summarize_classes(*columns, guess="", seed=seed)
    return pooled | {"majority_class": None, "majority_accuracy": right_guesses / len(rows)}


def _codes(references: Sequence[str], hypotheses: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return each clip's cell of the confusion matrix, row by row."""
    number = {name: index for index, name in enumerate(classes)}
    pairs = zip(references, hypotheses, strict=True)
    return np.array([number[truth] * len(classes) + number[said] for truth, said in pairs], dtype=np.int64)


def _matrix(codes: NDArray[np.int64], classes: int, weights: Floats | None) -> Floats:
    counts = np.bincount(codes, weights, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.float64)


def _units(speakers: Sequence[str], clips: int) -> tuple[NDArray[np.int64], str]:
    """Return the unit that each clip is drawn with, and what units are."""
    if known_speakers(speakers) >= 2:
        _, groups = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
        return groups.astype(np.int64), "speaker"
    return np.arange(clips), "utterance"


def _drawn_weights(groups: NDArray[np.int64], seed: int) -> Iterator[Floats]:
    """Yield for each bootstrap sample how often each clip is in it."""
    generator, units = np.random.default_rng(seed), int(groups.max()) + 1
    for _ in range(SAMPLES):
        drawn = np.bincount(generator.integers(0, units, units), minlength=units)
        yield drawn[groups].astype(np.float64)


def _interval(values: Sequence[float | None]) -> list[float]:
    return list(percentile_interval(np.array([np.nan if v is None else v for v in values], dtype=np.float64), LEVEL))


def _weighted_rmse(truth: Floats, said: Floats, weights: Floats) -> float:
    return math.sqrt(float((weights * (truth - said) ** 2).sum() / weights.sum()))


def _weighted_r2(truth: Floats, said: Floats, weights: Floats) -> float | None:
    mean = (weights * truth).sum() / weights.sum()
    spread = float((weights * (truth - mean) ** 2).sum())
    return None if spread == 0 else 1 - float((weights * (truth - said) ** 2).sum()) / spread


def _floats(texts: Sequence[str]) -> Floats:
    return np.array([float(text) for text in texts], dtype=np.float64)


def _predictions(scored: Sequence[ScoredRow], scoring: str) -> str:
    table = io.StringIO()
    writer = csv.writer(table, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(COLUMNS if scoring == "classes" else NUMBER_COLUMNS)
    for row in scored:
        if scoring == "classes":
            mark: float = int(row.reference == row.hypothesis)
        else:
            mark = float(row.hypothesis) - float(row.reference)
        writer.writerow((row.id, row.reference, row.hypothesis, mark, row.duration, row.speaker))
    return table.getvalue()
