"""Decoding knobs tried out on validation: a table of error rate against speed, and which row to take.

A row is a folder with test_results.json and test_predictions.csv, as any scored split. The rows are of the same clips,
so they are compared in pairs: a row is as good as the best where their difference may be chance.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_asr.config.parser import ConfigError, parse_yaml
from hf_asr.errors import UserError
from hf_asr.evaluation.intervals import Rate
from hf_asr.evaluation.report import compare_results, replace_file

SWEEP, TABLE = "sweep.json", "sweep.md"
# Sections whose keys change decoding and no weights; a name without a section is one of GenerationConfig.
GENERATION, CTC = "evaluation.generation.", "ctc."
CTC_KNOBS = ("beam", "lm_weight", "word_score")
# A grid beyond this was hardly meant.
MOST_ROWS = 200


@dataclass(frozen=True)
class Knob:
    """A setting and the values it takes.

    Attributes:
        name: As it was written: ``num_beams``, ``ctc.beam``.
        values: What it takes, in order.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def key(self) -> str:
        """The configuration's key."""
        return self.name if self.name.startswith(CTC) else GENERATION + self.name


def read_knobs(texts: Sequence[str]) -> list[Knob]:
    """Read ``name=value,value,...``; values are YAML's, a list is written in brackets.

    Raises:
        UserError: One is nothing of the kind, has no values, or stands twice.
    """
    knobs = [_read_knob(text) for text in texts]
    names = [knob.name for knob in knobs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--sweep: expected each knob once, found {', '.join(twice)} again; give its values together")
    rows = 1
    for knob in knobs:
        rows *= len(knob.values)
    if rows > MOST_ROWS:
        raise UserError(f"--sweep: expected at most {MOST_ROWS} rows, found a grid of {rows:,}; leave values out")
    return knobs


def grid(knobs: Sequence[Knob]) -> list[dict[str, Any]]:
    """Return every combination of the knobs' values, the last knob turning fastest."""
    names = [knob.name for knob in knobs]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(knob.values for knob in knobs))]


def overrides(knobs: Sequence[Knob], row: Mapping[str, Any]) -> list[str]:
    """Return a row as ``key=value`` of the configuration."""
    return [f"{knob.key}={json.dumps(row[knob.name])}" for knob in knobs]


def row_name(row: Mapping[str, Any]) -> str:
    """Return a row's folder name, the same in every run of the same row."""
    text = ",".join(f"{name}={json.dumps(value)}" for name, value in row.items())
    plain = re.sub(r"[^\w.,=+-]", "_", text)
    if plain == text and len(text) <= 100:
        return text
    return f"{plain[:80]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def summarize_sweep(
    folder: Path, knobs: Sequence[Knob], results: Sequence[Mapping[str, Any]], *, rate: Rate, split: str
) -> dict[str, Any]:
    """Compare the rows, write sweep.json and sweep.md, and return what sweep.json holds.

    Args:
        folder: Folder whose ``sweep/ROW`` hold the results.
        knobs: What was turned.
        results: What each row's test_results.json holds, in the grid's order.
        rate: ``wer`` or ``cer``: what decides.
        split: On what it was chosen.
    """
    rows = [_row(row, found, rate) for row, found in zip(grid(knobs), results, strict=True)]
    best = min(rows, key=lambda row: (row[rate], -(row["rtfx"] or 0.0)))
    for row in rows:
        row["difference_to_best"] = None if row is best else _difference(folder, best, row, rate)
    equal = [row for row in rows if row is best or not row["difference_to_best"]["significant"]]
    fastest = max(equal, key=lambda row: row["rtfx"] or 0.0)
    first = results[0]
    found = {
        "split": split,
        "model": first.get("model"),
        "rate": rate,
        "normalizer": first["normalizer"],
        "knobs": {knob.name: list(knob.values) for knob in knobs},
        "num_utterances": first["num_utterances"],
        "num_words": first["num_words"],
        "best": best["settings"],
        "fastest_as_good": fastest["settings"],
        "rows": rows,
    }
    replace_file(folder / SWEEP, json.dumps(found, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    replace_file(folder / TABLE, markdown(found))
    return found


def markdown(found: Mapping[str, Any]) -> str:
    """Return sweep.json as a table for people."""
    rate, names = found["rate"].upper(), list(found["knobs"])
    head = [*names, f"{rate} %, 95 % interval", "against the best, points", "RTFx", "S", "D", "I"]
    lines = [
        _line(head),
        _line(["---"] * len(head)),
        *(_line(_cells(row, names, found["rate"])) for row in found["rows"]),
    ]
    chosen = (
        f"Best on {found['split']} ({found['num_utterances']:,} clips, normalizer {found['normalizer']}): "
        f"{words(found['best'])}."
    )
    if found["fastest_as_good"] != found["best"]:
        chosen += f" Fastest of those whose difference from it may be chance: {words(found['fastest_as_good'])}."
    return "\n".join([*lines, "", chosen, ""])


def words(settings: Mapping[str, Any]) -> str:
    """Return settings as they would be written on a command line."""
    return " ".join(f"{name}={json.dumps(value)}" for name, value in settings.items())


def _read_knob(text: str) -> Knob:
    name, equals, given = text.partition("=")
    name = name.strip().removeprefix(GENERATION)
    if not equals or not name or not given.strip():
        raise UserError(f"--sweep: expected NAME=VALUE,VALUE,... such as num_beams=1,5, found '{text}'; write it so")
    section, dot, key = name.rpartition(".")
    if dot and not (section == "ctc" and key in CTC_KNOBS):
        known = ", ".join(CTC + knob for knob in CTC_KNOBS)
        raise UserError(
            f"--sweep: expected a name of GenerationConfig or one of {known}, found '{name}'; other keys are given "
            "once, as key=value"
        )
    try:
        values = parse_yaml(f"[{given}]")
    except ConfigError as error:
        raise UserError(
            f"--sweep {name}: expected values with commas between them, found '{given}': {error}"
        ) from error
    if any(value is None for value in values) or len({json.dumps(value) for value in values}) < len(values):
        raise UserError(f"--sweep {name}: expected values that differ, and none empty, found '{given}'; mend the list")
    return Knob(name, tuple(values))


def _row(settings: Mapping[str, Any], results: Mapping[str, Any], rate: Rate) -> dict[str, Any]:
    kept = ("wer", "cer", "substitutions", "deletions", "insertions", "rtfx", "wall_seconds", "seconds_of_audio")
    row = {"settings": dict(settings), "folder": f"sweep/{row_name(settings)}"}
    return row | {f"{rate}_interval": results[f"{rate}_interval"]} | {name: results[name] for name in kept}


def _difference(folder: Path, best: Mapping[str, Any], row: Mapping[str, Any], rate: Rate) -> dict[str, Any]:
    found = compare_results(folder / best["folder"], folder / row["folder"], rate=rate)
    return {
        "difference": found.difference,
        "interval": [found.low, found.high],
        "p_value": found.p_value,
        "by": found.by,
        "significant": bool(found.significant),
    }


def _cells(row: Mapping[str, Any], names: Sequence[str], rate: str) -> list[str]:
    low, high = (100 * end for end in row[f"{rate}_interval"])
    moved = row["difference_to_best"]
    against = "best"
    if moved:
        ends = ", ".join(f"{100 * end:+.2f}" for end in moved["interval"])
        against = f"{100 * moved['difference']:+.2f} [{ends}]" + ("" if moved["significant"] else ", may be chance")
    speed = "" if row["rtfx"] is None else f"{row['rtfx']:.1f}"
    settings = [json.dumps(row["settings"][name]) for name in names]
    errors = [f"{row[kind]:,}" for kind in ("substitutions", "deletions", "insertions")]
    return [*settings, f"{100 * row[rate]:.2f} [{low:.2f}, {high:.2f}]", against, speed, *errors]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
