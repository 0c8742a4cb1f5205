"""What a classifier learns: the classes or the numbers of ``data.columns.label``, counted on train alone."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional

from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.collate import IGNORED
from hf_asr.models.losses import Loss

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 10_000
CLASSIFICATION, REGRESSION = "classification", "regression"


@dataclass(frozen=True)
class Targets:
    """What train's labels are.

    Attributes:
        task: ``classification`` or ``regression``.
        counts: Class to clips of train, sorted by name; empty for numbers.
        mean: Of train's numbers.
        std: Their standard deviation.
    """

    task: str
    counts: Mapping[str, int] = field(default_factory=dict)
    mean: float = 0.0
    std: float = 1.0

    @property
    def classes(self) -> list[str]:
        """Names of the classes, by their number."""
        return list(self.counts)

    @property
    def guess(self) -> str:
        """What one would say without listening: the commonest class, or the mean."""
        if self.task == REGRESSION:
            return number_text(self.mean)
        return max(self.counts, key=lambda name: (self.counts[name], name))

    def balanced_weights(self) -> list[float]:
        """Return clips / (classes x clips of the class): with them every class weighs the same, 1 on average."""
        total = sum(self.counts.values())
        return [total / (len(self.counts) * number) for number in self.counts.values()]


def targets_of(train: Dataset | Stream | None, task: str, column: str) -> Targets:
    """Count the labels of the training split.

    Args:
        train: Its rows.
        task: ``classification`` or ``regression``.
        column: ``data.columns.label``, for messages; empty when it is not given.

    Raises:
        UserError: There are none, they are all alike, or numbers were expected and they are none.
    """
    if not isinstance(train, Dataset):
        found = "none" if train is None else "a stream"
        raise UserError(
            f"train: expected a training split whose labels can be counted first, found {found}. Set "
            "data.streaming=false; or give a classifier that is trained already in model.name_or_path."
        )
    labels = Counter(label for label in _labels(train) if label)
    if not labels:
        known = f"data.columns.label={column}, which is empty" if column else "no data.columns.label"
        raise UserError(
            f"data.columns.label: expected the column that says what each clip is, found {known} in all {len(train):,} "
            "clips of train. Name the column, such as data.columns.label=emotion."
        )
    return _numbers(labels) if task == REGRESSION else _classes(labels)


def _labels(rows: Dataset) -> Iterator[str]:
    for block in rows.select_columns("label").iter(batch_size=ROWS_AT_ONCE):
        yield from block["label"]


def _classes(labels: Counter[str]) -> Targets:
    if len(labels) < 2:
        raise UserError(
            f"data.columns.label: expected at least two classes in train, found one, '{next(iter(labels))}'. Check the "
            "column and data.splits."
        )
    if len(labels) > sum(labels.values()) / 2:
        logger.warning(
            "data.columns.label: %d classes for %d clips, hardly any twice: is it a number (head.task=regression)?",
            len(labels),
            sum(labels.values()),
        )
    return Targets(CLASSIFICATION, dict(sorted(labels.items())))


def _numbers(labels: Counter[str]) -> Targets:
    found = {text: as_number(text) for text in labels}
    wrong = [text for text, number in found.items() if number is None]
    if wrong:
        raise UserError(
            f"data.columns.label: expected numbers (head.task is regression), found '{wrong[0]}'"
            f"{f' and {len(wrong) - 1} others' if len(wrong) > 1 else ''}. Mend the column, or set "
            "head.task=classification."
        )
    total = sum(labels.values())
    numbers = [(number, labels[text]) for text, number in found.items() if number is not None]
    mean = math.fsum(number * times for number, times in numbers) / total
    variance = math.fsum((number - mean) ** 2 * times for number, times in numbers) / total
    if variance == 0:
        raise UserError(f"data.columns.label: expected numbers that differ, found {mean:g} in all clips of train.")
    return Targets(REGRESSION, mean=mean, std=math.sqrt(variance))


def as_number(text: str) -> float | None:
    """Return a text as a finite number, None for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def number_text(number: float) -> str:
    """Write a number as hypotheses and labels do: six digits."""
    return f"{number:.6g}"


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """Labels of a classifier: the number of the row's class.

    Attributes:
        classes: Names of the classes, by their number.
    """

    classes: Sequence[str]
    dtype: str = "int32"
    writes_text: bool = False

    def __call__(self, row: Mapping[str, Any]) -> list[int]:
        """Return the class's number; nothing for a class that is none of these."""
        return [self.classes.index(row["label"])] if row["label"] in self.classes else []

    def read(self, labels: Sequence[Any]) -> str:
        """Return the class's name."""
        return self.classes[int(labels[0])] if labels else ""

    def problem(self, row: Mapping[str, Any], labels: Sequence[Any], frames: int) -> str:
        """Tell a label that is missing, or none of the classes."""
        if labels:
            return ""
        return f"unknown_class: '{row['label']}', the classes are {', '.join(self.classes)}"

    def fingerprint(self) -> dict[str, Any]:
        """Return the classes."""
        return {"classes": list(self.classes)}


@dataclass(frozen=True, eq=False)
class NumberLabels:
    """Labels of a regressor: the row's number, as it is."""

    dtype: str = "float32"
    writes_text: bool = False

    def __call__(self, row: Mapping[str, Any]) -> list[float]:
        """Return the number; nothing for what is none."""
        number = as_number(row["label"])
        return [] if number is None else [number]

    def read(self, labels: Sequence[Any]) -> str:
        """Return the number as text."""
        return number_text(float(labels[0])) if labels else ""

    def problem(self, row: Mapping[str, Any], labels: Sequence[Any], frames: int) -> str:
        """Tell a label that is no number."""
        return "" if labels else f"no_number: '{row['label']}'"

    def fingerprint(self) -> dict[str, Any]:
        """Tell numbers from classes."""
        return {"numbers": True}


def summed_class_loss(model: Any, inputs: Mapping[str, Any], outputs: Any, smoothing: float = 0.0) -> torch.Tensor:
    """Return the cross-entropy summed over examples, each weighted by its class.

    It is divided by the examples, not by their weights, so that a step's parts may be cut in any way.
    """
    logits: torch.Tensor = outputs.logits.float()
    weights = model.config.class_weights
    given = None if weights is None else torch.tensor(weights, device=logits.device)
    return functional.cross_entropy(
        logits, inputs["labels"], weight=given, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
    )


def summed_squares(model: Any, inputs: Mapping[str, Any], outputs: Any, smoothing: float = 0.0) -> torch.Tensor:
    """Return the squared errors of standardised numbers, summed; nan targets count nothing."""
    config, targets = model.config, inputs["labels"].float()
    counted = ~torch.isnan(targets)
    standard = torch.where(counted, (targets - config.target_mean) / config.target_std, torch.zeros_like(targets))
    errors = outputs.logits.float()[:, 0] - standard
    return (errors.square() * counted).sum()


def count_classes(labels: torch.Tensor) -> torch.Tensor:
    """Return how many class labels (B,) are not ignored."""
    return labels.ne(IGNORED).sum()


def count_numbers(labels: torch.Tensor) -> torch.Tensor:
    """Return how many numbers (B,) are not nan."""
    return (~torch.isnan(labels)).sum()


CLASSES = Loss(summed_class_loss, count_classes)
NUMBERS = Loss(summed_squares, count_numbers)
