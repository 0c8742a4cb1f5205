"""What a page about runs is made of: everything that a run folder says about itself, read once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hf_asr.errors import UserError
from hf_asr.evaluation.intervals import (
    PairedDifference,
    Units,
    interval_of,
    randomization_test,
    speakers_for_test,
)
from hf_asr.evaluation.page_analysis import analyse_predictions, in_characters
from hf_asr.evaluation.page_scale import without_place
from hf_asr.evaluation.report import PREDICTIONS, RESULTS, read_predictions, read_results
from hf_asr.text import cer_first

ANALYSIS = "test_detailed_analysis.json"
EPOCHS = "metrics_on_all_epochs.json"

Prediction = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Scored:
    """One set of hypotheses with its scores.

    Attributes:
        name: What a reader knows it by: ``before``, ``after``, or its run's name.
        results: What test_results.json holds.
        predictions: Rows of test_predictions.csv, errors counted in characters where CER comes first; empty where they
            were not kept, or for a classifier.
        analysis: What test_detailed_analysis.json holds, or the same made of the predictions; None without them.
    """

    name: str
    results: Mapping[str, Any]
    predictions: Sequence[Prediction] = ()
    analysis: Mapping[str, Any] | None = None

    @property
    def writes_words(self) -> bool:
        """Whether words were written, not classes or numbers named."""
        return "wer" in self.results


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, or a folder of ``hf-asr evaluate``, as far as it goes.

    Attributes:
        name: The experiment's name, or the folder's.
        folder: Where it is.
        after: The fine-tuned model's scores, or the only ones.
        before: The untouched model's; None where it was not scored.
        config: Its config.yaml; empty where there is none.
        epochs: Entries of metrics_on_all_epochs.json.
        environment: Its environment.json; empty where there is none.
    """

    name: str
    folder: Path
    after: Scored
    before: Scored | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    epochs: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, section: str, key: str) -> Any:
        """Return a value of config.yaml, a local path cut to its name; None where there is none."""
        value = (self.config.get(section) or {}).get(key)
        return without_place(value) if isinstance(value, str) else value


def read_run(folder: str | Path) -> Run:
    """Read a run folder, or one that ``hf-asr evaluate`` wrote.

    Raises:
        UserError: There are no results in it, or a file in it is not whole.
    """
    place = Path(folder)
    if not (place / "test" / RESULTS).is_file() and not (place / RESULTS).is_file():
        raise UserError(
            f"expected a run folder with test/{RESULTS}, or a folder of hf-asr evaluate with {RESULTS}, found neither "
            f"in {place}; name a run that has ended, or score the model with hf-asr evaluate"
        )
    config = _read(place / "config.yaml", {})
    after = place / "test" if (place / "test" / RESULTS).is_file() else place
    before = place / "baseline"
    has_baseline = after != place and (before / RESULTS).is_file()
    language = (config.get("data") or {}).get("language")
    return Run(
        name=str((config.get("experiment") or {}).get("name") or place.resolve().name),
        folder=place,
        after=_read_scored("after" if has_baseline else "result", after, language),
        before=_read_scored("before", before, language) if has_baseline else None,
        config=config,
        epochs=_read(place / EPOCHS, []),
        environment=_read(place / "environment.json", {}),
    )


def rate_of(scored: Scored) -> str:
    """Return the rate that comes first: ``cer`` where words are written without spaces, else ``wer``."""
    return str((scored.analysis or {}).get("rate") or "wer")


def difference(run: Run) -> PairedDifference | None:
    """Return how the first rate changed, drawn over the same clips of both sides; None where they cannot be paired."""
    if run.before is None or not run.before.predictions or not run.after.predictions:
        return None
    first, second = ({row["id"]: row for row in side.predictions} for side in (run.before, run.after))
    ids = [id for id in first if id in second]
    pairs = [(first[id], second[id]) for id in ids]
    if any(one["reference_normalized"] != other["reference_normalized"] for one, other in pairs):
        return None
    change = np.array([edits(other) - edits(one) for one, other in pairs], dtype=np.float64)
    words = np.array([length(one) for one, _ in pairs], dtype=np.float64)
    speakers = speakers_for_test([one["speaker"] for one, _ in pairs])
    units = _summed(change, words, speakers)
    if not words.any():
        return None
    low, high = interval_of(units)
    by = "utterance" if speakers is None else "speaker"
    return PairedDifference(units.rate(), low, high, randomization_test(units.errors), by)


def edits(row: Prediction) -> int:
    """Return the errors of a prediction: of words, or of characters where CER comes first."""
    return int(row["substitutions"] + row["deletions"] + row["insertions"])


def length(row: Prediction) -> int:
    """Return the words of a prediction's reference, or its characters where CER comes first."""
    return int(row["hits"] + row["substitutions"] + row["deletions"])


def _summed(errors: NDArray[np.float64], words: NDArray[np.float64], speakers: Sequence[str] | None) -> Units:
    if speakers is None:
        return Units(errors, words)
    _, group = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    return Units(*(np.bincount(group, column).astype(np.float64) for column in (errors, words)))


def _read_scored(name: str, folder: Path, language: str | None) -> Scored:
    results = read_results(folder)
    if "wer" not in results or not (folder / PREDICTIONS).is_file():
        return Scored(name, results, (), _read(folder / ANALYSIS, None))
    predictions = read_predictions(folder)
    analysis = _read(folder / ANALYSIS, None)
    rate = analysis["rate"] if analysis else "cer" if cer_first(language) else "wer"
    if rate == "cer":
        predictions = in_characters(predictions)
    if analysis is None:
        analysis = analyse_predictions(predictions, rate)
    return Scored(name, results, predictions, analysis)


def _read(path: Path, missing: Any) -> Any:
    """Return what a YAML or JSON file holds; ``missing`` where there is no such file.

    Raises:
        UserError: It is not whole.
    """
    if not path.is_file():
        return missing
    try:
        text = path.read_text(encoding="utf-8")
        return (yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)) or missing
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"expected a whole file, found {path} that cannot be read ({error}); delete it, or make the run again"
        ) from error
