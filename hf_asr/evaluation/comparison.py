"""Two systems on the same clips, compared clip by clip: comparison.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hf_asr.errors import UserError
from hf_asr.evaluation.columns import Clips, Grouping, groupings
from hf_asr.evaluation.counts import ErrorCounts, count_errors
from hf_asr.evaluation.edits import EditColumns
from hf_asr.evaluation.intervals import (
    LEVEL,
    METHOD,
    MIN_SPEAKERS_FOR_TEST,
    SAMPLES,
    Rate,
    Units,
    bootstrap_interval,
    interval_of,
    paired_difference_interval,
    speakers_for_test,
)
from hf_asr.evaluation.report import COLUMNS, PREDICTIONS, RESULTS, read_predictions, read_results
from hf_asr.evaluation.significance import matched_pairs
from hf_asr.evaluation.slices import FEWEST_UTTERANCES, FEWEST_WORDS, MOST_GROUPS, check_speakers

COMPARISON = "comparison.json"
SCHEMA_VERSION = 1
MOST_CHANGED = 50
# Ids that a refusal names.
SHOWN_IDS = 5

By = Literal["utterance", "speaker"]


@dataclass(frozen=True, slots=True)
class System:
    """One side of a comparison.

    Attributes:
        path: What the user named.
        model: The model's name; None where it is not known.
        normalizer: The text pipeline of its scores; None where it is not known.
        rows: Its predictions, from :func:`hf_asr.evaluation.report.read_predictions`.
    """

    path: str
    model: str | None
    normalizer: str | None
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Both sides, scored alike, clips in the same order.

    Attributes:
        before: Counts of the first system.
        after: Counts of the second.
        clips: What is known of the clips.
        rate: The rate that is compared.
        speakers: Speakers to draw; None draws utterances.
        seed: Seed of intervals and tests.
    """

    before: ErrorCounts
    after: ErrorCounts
    clips: Clips
    rate: Rate
    speakers: Sequence[str] | None
    seed: int

    def edits(self) -> tuple[EditColumns, EditColumns]:
        """Return both sides' counts of the tokens that ``rate`` is about."""
        if self.rate == "wer":
            return self.before.words, self.after.words
        return self.before.characters, self.after.characters


def read_system(place: str | Path) -> System:
    """Read the predictions of a run folder (its test/), of a folder that holds them, or of a file.

    Raises:
        UserError: There are none, or they are no transcripts.
    """
    path = Path(place)
    folders = [folder for folder in (path, path / "test") if (folder / PREDICTIONS).is_file()]
    if not path.is_file() and not folders:
        found = "nothing there" if not path.exists() else f"no {PREDICTIONS} in it or in its test/"
        raise UserError(
            f"expected a run, or a folder with {PREDICTIONS}, at {place}, found {found}; score it with hf-asr evaluate "
            "--save-predictions"
        )
    source = path if path.is_file() else folders[0]
    rows = read_predictions(source)
    if not rows:
        raise UserError(f"expected predictions in {source}, found none; score that split again")
    folder = source.parent if source.is_file() else source
    results = read_results(folder) if (folder / RESULTS).is_file() else {}
    return System(str(place), results.get("model"), results.get("normalizer"), rows)


def pair_up(
    first: System,
    second: System,
    *,
    by: By | None = None,
    rate: Rate = "wer",
    normalizer: str | None = None,
    seed: int = 42,
) -> Pair:
    """Score both sides on the same clips.

    Args:
        first: The first system.
        second: The second.
        by: What is drawn; None draws speakers where every clip's is known and there are enough, else utterances.
        rate: ``wer`` or ``cer``.
        normalizer: Text pipeline of both; None takes the texts as both runs normalised them.
        seed: Seed of intervals and tests.

    Raises:
        UserError: The clips or their references differ, an id comes twice, the runs were normalised differently, or
            speakers cannot be drawn.
    """
    _check_clips(first, second)
    if normalizer is None:
        _check_normalizers(first, second)
    rows = {row["id"]: row for row in second.rows}
    others = [rows[row["id"]] for row in first.rows]
    counts = [_score(one, normalizer) for one in (first.rows, others)]
    if counts[0].reference_normalized != counts[1].reference_normalized:
        raise UserError(_other_references(first, second, counts))
    speakers = [row["speaker"] for row in first.rows]
    drawn = {"speaker": check_speakers, "utterance": lambda _: None, None: speakers_for_test}[by](speakers)
    more = [name for name in first.rows[0] if name not in COLUMNS]
    columns = {name: [row[name] for row in first.rows] for name in more}
    clips = Clips([row["duration"] for row in first.rows], speakers, columns)
    return Pair(counts[0], counts[1], clips, rate, drawn, seed)


def _score(rows: Sequence[Mapping[str, Any]], normalizer: str | None) -> ErrorCounts:
    names = ("reference_normalized", "hypothesis_normalized") if normalizer is None else ("reference", "hypothesis")
    references, hypotheses = ([row[name] for row in rows] for name in names)
    return count_errors(references, hypotheses, normalizer=normalizer or "none", ids=[row["id"] for row in rows])


def _check_clips(first: System, second: System) -> None:
    """See that both have the same clips, each once."""
    ids = [[row["id"] for row in system.rows] for system in (first, second)]
    for system, own in zip((first, second), ids, strict=True):
        if len(set(own)) < len(own):
            twice = sorted({id for id in own if own.count(id) > 1}) if len(own) < 10_000 else sorted(_repeated(own))
            raise UserError(f"expected each clip once in {system.path}, found several rows of {_named(twice)}")
    only = [sorted(set(one) - set(other)) for one, other in (ids, ids[::-1])]
    if any(only):
        parts = [
            f"{len(missing)} only in {system.path} ({_named(missing)})"
            for system, missing in zip((first, second), only, strict=True)
            if missing
        ]
        raise UserError(
            f"a comparison expects the same clips on both sides, found {len(ids[0])} and {len(ids[1])}: "
            f"{'; '.join(parts)}; score both models on one split"
        )


def _repeated(ids: Sequence[str]) -> set[str]:
    seen, again = set[str](), set[str]()
    for id in ids:
        (again if id in seen else seen).add(id)
    return again


def _named(ids: Sequence[str]) -> str:
    rest = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return ", ".join(id or "an empty id" for id in ids[:SHOWN_IDS]) + rest


def _check_normalizers(first: System, second: System) -> None:
    """See that both were normalised alike: references without case and punctuation are the same whatever is done."""
    if first.normalizer and second.normalizer and first.normalizer != second.normalizer:
        raise UserError(
            f"a comparison expects one normalizer on both sides, found {first.normalizer} in {first.path} and "
            f"{second.normalizer} in {second.path}; say --normalizer NAME to score both anew"
        )


def _other_references(first: System, second: System, counts: Sequence[ErrorCounts]) -> str:
    pairs = zip(counts[0].ids, counts[0].reference_normalized, counts[1].reference_normalized, strict=True)
    differing = [id for id, one, other in pairs if one != other]
    unknown = " (how they were normalised is not known for both: --normalizer NAME scores both anew)"
    told = unknown if first.normalizer is None or second.normalizer is None else ""
    return (
        f"a comparison expects the same references on both sides, found other ones for {len(differing)} clips "
        f"({_named(differing)}); score both models on one split{told}"
    )


def compare(first: System, second: System, pair: Pair, *, normalizer: str | None, margin: float) -> dict[str, Any]:
    """Return what comparison.json holds; docs/outputs.md says what each key is.

    Args:
        first: The first system.
        second: The second.
        pair: Both, scored alike.
        normalizer: The text pipeline that was asked for; None for that of the runs.
        margin: Largest increase of the rate that is borne.
    """
    by = "utterance" if pair.speakers is None else "speaker"
    found = paired_difference_interval(pair.before, pair.after, speakers=pair.speakers, seed=pair.seed, rate=pair.rate)
    first_side, second_side = _side(first, pair.before, pair), _side(second, pair.after, pair)
    return {
        "schema_version": SCHEMA_VERSION,
        "rate": pair.rate,
        "normalizer": normalizer or first.normalizer,
        "by": by,
        "seed": pair.seed,
        "interval": {"method": METHOD, "level": LEVEL, "samples": SAMPLES, "seed": pair.seed},
        "a": first_side,
        "b": second_side,
        "num_utterances": len(pair.before),
        "num_words": int(pair.before.words.reference_length.sum()),
        "num_speakers": len(set(pair.clips.speakers) - {""}),
        "difference": found.difference,
        "difference_interval": [found.low, found.high],
        "p_value": found.p_value,
        "significant": found.significant,
        "matched_pairs": _matched_pairs(pair),
        "utterances": _won(pair, np.arange(len(pair.before))),
        "slices": [_slice(pair, grouping) for grouping in groupings([], pair.before, pair.clips)],
        "changed": _changed(pair),
        "margin": margin,
        "regression": found.low > margin,
    }


def _side(system: System, counts: ErrorCounts, pair: Pair) -> dict[str, Any]:
    edits = counts.words if pair.rate == "wer" else counts.characters
    names = ("substitutions", "deletions", "insertions", "hits")
    interval = bootstrap_interval(counts, speakers=pair.speakers, seed=pair.seed, rate=pair.rate)
    return {
        "path": system.path,
        "model": system.model,
        "rate": edits.error_rate(),
        "interval": list(interval),
        **dict(zip(names, edits.sums(), strict=True)),
    }


def _matched_pairs(pair: Pair) -> dict[str, Any] | None:
    """Return MAPSSWE, which takes segments of words for independent: so neither by speaker nor for characters."""
    if pair.speakers is not None or pair.rate != "wer":
        return None
    found = matched_pairs(pair.before, pair.after)
    numbers = {"segments": found.segments, "mean": found.mean, "z": found.z, "p_value": found.p_value}
    return {"test": "MAPSSWE", **numbers}


def _won(pair: Pair, rows: Any) -> dict[str, int]:
    before, after = (edits.errors[rows] for edits in pair.edits())
    return {
        "win": int((after < before).sum()),
        "tie": int((after == before).sum()),
        "loss": int((after > before).sum()),
    }


def _slice(pair: Pair, grouping: Grouping) -> dict[str, Any]:
    shown = range(min(MOST_GROUPS, len(grouping.labels)))
    groups = [(place, np.flatnonzero(grouping.codes == place)) for place in shown]
    return {
        "name": grouping.name,
        "kind": grouping.kind,
        "unit": grouping.unit,
        "unknown": int((grouping.codes < 0).sum()),
        "left_out": len(grouping.labels) - len(shown),
        "groups": [_group(pair, grouping, place, rows) for place, rows in groups if len(rows)],
    }


def _group(pair: Pair, grouping: Grouping, place: int, rows: Any) -> dict[str, Any]:
    value, low, high = grouping.limits[place]
    before, after = (edits.subset(rows) for edits in pair.edits())
    change = (after.errors - before.errors).astype(np.float64)
    lengths = before.reference_length.astype(np.float64)
    interval = None
    if lengths.any():
        names, units = np.unique(np.array(pair.clips.speakers, dtype=object)[rows], return_inverse=True)
        drawn = pair.speakers is not None and len(names) >= MIN_SPEAKERS_FOR_TEST
        sums = [np.bincount(units, column) for column in (change, lengths)] if drawn else [change, lengths]
        interval = list(interval_of(Units(*sums), seed=pair.seed))
    words = int(pair.before.words.reference_length[rows].sum())
    return {
        "label": grouping.labels[place],
        "value": value,
        "low": low,
        "high": high,
        "utterances": len(rows),
        "words": words,
        "a": before.error_rate() if lengths.any() else None,
        "b": after.error_rate() if lengths.any() else None,
        "difference": float(change.sum() / lengths.sum()) if lengths.any() else None,
        "difference_interval": interval,
        **_won(pair, rows),
        "small": len(rows) < FEWEST_UTTERANCES or words < FEWEST_WORDS,
    }


def _changed(pair: Pair) -> list[dict[str, Any]]:
    """Return the utterances whose errors changed most, the largest change first."""
    before, after = (edits.errors for edits in pair.edits())
    order = np.lexsort((np.arange(len(before)), -np.abs(after - before)))[:MOST_CHANGED]
    return [
        {
            "id": pair.before.ids[row],
            "reference": pair.before.reference_normalized[row],
            "a": pair.before.hypothesis_normalized[row],
            "b": pair.after.hypothesis_normalized[row],
            "errors_a": int(before[row]),
            "errors_b": int(after[row]),
            "speaker": pair.clips.speakers[row],
        }
        for row in order.tolist()
        if before[row] != after[row]
    ]


def dumped(comparison: Mapping[str, Any]) -> str:
    """Return comparison.json's text."""
    return json.dumps(comparison, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
