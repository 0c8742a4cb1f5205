"""What a scored split leaves on disk, ``test_results.json`` and ``test_predictions.csv``, and how it is read back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hf_asr.data.columns import as_seconds
from hf_asr.errors import UserError
from hf_asr.evaluation.analysis import ANALYSIS, About, analyse
from hf_asr.evaluation.columns import Cell, Clips
from hf_asr.evaluation.counts import ErrorCounts, count_errors
from hf_asr.evaluation.intervals import PairedDifference, Rate, paired_difference_interval, speakers_for_test, summarize
from hf_asr.evaluation.metrics import compute_metrics
from hf_asr.evaluation.texts import ScoredTexts
from hf_asr.files import allow_long_fields, write_whole
from hf_asr.utterance import Drops, Hypothesis, Seconds

RESULTS = "test_results.json"
PREDICTIONS = "test_predictions.csv"
COLUMNS = (
    "id",
    "reference",
    "hypothesis",
    "reference_normalized",
    "hypothesis_normalized",
    "duration",
    "speaker",
    "substitutions",
    "deletions",
    "insertions",
    "hits",
)
# Columns of a split that have fields of their own.
JOINED = ("id", "text", "label", "duration", "speaker")


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One clip that has a hypothesis."""

    id: str
    reference: str
    hypothesis: str
    duration: Seconds | None
    speaker: str
    columns: Mapping[str, Cell] = field(default_factory=dict)


def join_rows(rows: Mapping[str, Sequence[Any]], hypotheses: Sequence[Hypothesis]) -> list[ScoredRow]:
    """Join a split's columns with its hypotheses by id, in the split's order; rows without a hypothesis are left out.

    Args:
        rows: Columns ``id``, ``text``, ``duration`` and ``speaker`` of the split, and what else it is cut by, equally
            long.
        hypotheses: What was recognised, each id once.
    """
    texts = {hypothesis.id: hypothesis.text for hypothesis in hypotheses}
    assert len(texts) == len(hypotheses), "two hypotheses of one clip"
    assert texts.keys() <= set(rows["id"]), "a hypothesis of no clip"
    columns = zip(rows["id"], rows["text"], rows["duration"], rows["speaker"], strict=True)
    more = [name for name in rows if name not in JOINED]
    return [
        ScoredRow(
            id, text, texts[id], as_seconds(seconds), name or "", {column: rows[column][place] for column in more}
        )
        for place, (id, text, seconds, name) in enumerate(columns)
        if id in texts
    ]


def write_results(
    directory: str | Path,
    *,
    rows: Mapping[str, Sequence[Any]],
    hypotheses: Sequence[Hypothesis],
    skipped: Drops,
    conditions: Mapping[str, Any],
    wall_seconds: Seconds | None,
    normalizer: str = "basic",
    metrics: Sequence[str] = ("wer", "cer", "mer", "wil"),
    split: str = "test",
    seed: int = 42,
    save_predictions: bool = True,
    about: Mapping[str, Any] | None = None,
    analysis: About | None = None,
) -> dict[str, Any]:
    """Score a split and write its results, its predictions and its analysis when wanted; files appear whole or not.

    Args:
        directory: Folder of the two files, made when missing.
        rows: Columns ``id``, ``text``, ``duration`` (seconds) and ``speaker`` of the split, and those it is cut by.
        hypotheses: One for each clip that could be decoded; joined by id.
        skipped: What was left out of the split and why, clips that could not be decoded included.
        conditions: Decoding conditions; their keys stand beside the others.
        wall_seconds: Time the decoding took; None where it is unknown.
        normalizer: Text pipeline both sides go through.
        metrics: Names of ``evaluate.Metric`` modules that are computed too (``evaluation.metrics``).
        split: Name of the split.
        seed: Seed of the intervals.
        save_predictions: Whether to write ``test_predictions.csv``.
        about: More keys to store, such as the model's name.
        analysis: What ``test_detailed_analysis.json`` is told; None writes none.

    Returns:
        What ``test_results.json`` holds. Rates are fractions.

    Raises:
        UserError: There is nothing to score, or the folder cannot be written.
    """
    scored = join_rows(rows, hypotheses)
    texts = _texts(scored, normalizer)
    counts = texts.counts
    results = summarize(counts, [row.speaker for row in scored], seed)
    results |= {"raw_wer": texts.raw.counts.wer(), "raw_cer": texts.raw.counts.cer()}
    results |= compute_metrics(metrics, counts.reference_normalized, counts.hypothesis_normalized)
    results |= speed(scored, wall_seconds)
    results |= {"skipped": skipped.counts(), "skipped_items": skipped.to_dict(), "split": split, "seed": seed}
    results |= {**conditions, **(about or {})}
    folder = Path(directory)
    if analysis is not None:
        found = analyse(texts, clips_of(scored), results, replace(analysis, split=split, seed=seed))
        replace_file(folder / ANALYSIS, json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    if save_predictions:
        replace_file(folder / PREDICTIONS, _predictions(scored, counts))
    replace_file(folder / RESULTS, json.dumps(results, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    return results


def read_results(directory: str | Path) -> dict[str, Any]:
    """Read ``test_results.json`` of a folder.

    Raises:
        UserError: There is none, or it is not whole.
    """
    path = Path(directory) / RESULTS
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"expected {RESULTS} in {directory}, found none; score that split first") from None
    except (OSError, ValueError) as error:
        raise UserError(f"expected JSON in {path}, found something else ({error}); score that split again") from error
    if not isinstance(results, dict):
        raise UserError(f"expected a JSON object in {path}, found {str(results)[:40]}; score that split again")
    return results


def read_predictions(directory: str | Path) -> list[dict[str, Any]]:
    """Read ``test_predictions.csv``: one dictionary a clip, numbers as numbers, unknown duration None, the rest text.

    Args:
        directory: The folder, or the file itself.

    Raises:
        UserError: There is none, or its columns are others.
    """
    path = Path(directory) if Path(directory).is_file() else Path(directory) / PREDICTIONS
    allow_long_fields()
    try:
        # Spreadsheet programs put a byte order mark first.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ())[: len(COLUMNS)] != COLUMNS:
                found = ", ".join(reader.fieldnames or ()) or "an empty file"
                raise UserError(
                    f"expected the columns {', '.join(COLUMNS)} in {path}, found {found}; score that split again"
                )
            return [_typed(row, path, reader.line_num) for row in reader]
    except FileNotFoundError:
        raise UserError(
            f"expected {PREDICTIONS} in {directory}, found none; score that split again and keep its predictions"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"expected a CSV table in UTF-8 in {path}, found {error}; score that split again") from error


def compare_results(before: str | Path, after: str | Path, *, seed: int = 42, rate: Rate = "wer") -> PairedDifference:
    """Compare two result folders of the same split, clip by clip.

    Speakers are drawn where every clip's speaker is known and there are enough of them for a test to reach 5 %,
    else clips.

    Args:
        before: Folder of the first system (``baseline``).
        after: Folder of the second (``test``).
        seed: Seed of interval and test.
        rate: ``wer`` or ``cer``.

    Raises:
        UserError: A file is missing, or the folders hold other clips or references.
    """
    rows, counts = zip(*map(_read_counts, (before, after)), strict=True)
    speakers = speakers_for_test([row["speaker"] for row in rows[0]])
    return paired_difference_interval(counts[0], counts[1], speakers=speakers, seed=seed, rate=rate)


def _read_counts(directory: str | Path) -> tuple[list[dict[str, Any]], ErrorCounts]:
    rows = read_predictions(directory)
    columns = {name: [row[name] for row in rows] for name in ("id", "reference_normalized", "hypothesis_normalized")}
    counts = count_errors(
        columns["reference_normalized"], columns["hypothesis_normalized"], normalizer="none", ids=columns["id"]
    )
    return rows, counts


def _texts(scored: Sequence[ScoredRow], normalizer: str) -> ScoredTexts:
    references, hypotheses = [row.reference for row in scored], [row.hypothesis for row in scored]
    counts = count_errors(references, hypotheses, normalizer=normalizer, ids=[row.id for row in scored])
    return ScoredTexts(counts, references, hypotheses)


def clips_of(scored: Sequence[ScoredRow]) -> Clips:
    """Return what is known of scored clips beside their texts."""
    names = scored[0].columns if scored else ()
    columns = {name: [row.columns[name] for row in scored] for name in names}
    return Clips([row.duration for row in scored], [row.speaker for row in scored], columns)


def speed(scored: Sequence[ScoredRow], wall_seconds: Seconds | None) -> dict[str, Any]:
    """Return seconds of audio and RTFx, seconds of audio decoded a second; null where something is not known."""
    durations = [row.duration for row in scored if row.duration is not None]
    seconds = sum(durations) if len(durations) == len(scored) else None
    rtfx = seconds / wall_seconds if seconds is not None and wall_seconds else None
    return {"seconds_of_audio": seconds, "wall_seconds": wall_seconds, "rtfx": rtfx}


def _predictions(scored: Sequence[ScoredRow], counts: ErrorCounts) -> str:
    """Return the table as CSV; every text is quoted, so that line ends and commas inside are safe."""
    table = io.StringIO()
    writer = csv.writer(table, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    more = list(scored[0].columns) if scored else []
    writer.writerow((*COLUMNS, *more))
    columns = (counts.substitutions, counts.deletions, counts.insertions, counts.hits)
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    normalized = zip(counts.reference_normalized, counts.hypothesis_normalized, strict=True)
    for row, pair, edits in zip(scored, normalized, numbers, strict=True):
        own = (row.id, row.reference, row.hypothesis, *pair, row.duration, row.speaker, *edits)
        writer.writerow((*own, *(row.columns[name] for name in more)))
    return table.getvalue()


def _typed(row: Mapping[str | None, Any], path: Path, line: int) -> dict[str, Any]:
    """Return a row with numbers as numbers.

    Raises:
        UserError: It has fewer or more cells than the table has columns, or its counts are no numbers.
    """
    if None in row or None in row.values():
        found = "more cells" if None in row else "fewer cells"
        raise UserError(
            f"expected one cell a column in {path}, found {found} up to line {line}; score that split again"
        )
    try:
        numbers = {name: int(row[name]) for name in ("substitutions", "deletions", "insertions", "hits")}
    except ValueError as error:
        raise UserError(
            f"expected whole numbers of errors in {path}, found others up to line {line} ({error}); score that split "
            "again"
        ) from error
    return {**row, "duration": as_seconds(row["duration"]), **numbers}  # type: ignore[dict-item]


def replace_file(path: Path, text: str) -> None:
    """Write a file, whole or not at all.

    Raises:
        UserError: The folder cannot be written.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise UserError(
            f"expected a folder that can be written, found {path.parent}: {error.strerror}; choose another folder, "
            "or make room"
        ) from error
