"""The columns that a split's clips are grouped by, from the corpus's rows: gender, age, accent, an SNR estimate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hf_asr.data.snr import snr_of_clips
from hf_asr.errors import UserError
from hf_asr.evaluation.columns import USUAL, Cell, bounds_by_name
from hf_asr.features.cache import PreparedSplit

# Columns that every scored set has, whatever its corpus tells.
OWN = ("duration", "reference_length", "speaking_rate", "speaker")
# Columns of every row beside the corpus's own ones.
OF_ROWS = ("corpus", "language", "label")
# Common Voice calls it accents from release 8 on and accent before; its reader settles on the older name.
_ALSO = {"accents": "accent"}
SNR = "snr"


def clip_columns(prepared: PreparedSplit, wanted: Sequence[Any]) -> dict[str, list[Cell]]:
    """Return the columns that ``evaluation.slices`` asks for and a scored set does not have by itself.

    Args:
        prepared: The split; only what its corpus tells is read, and for ``snr`` its audio.
        wanted: ``evaluation.slices``; empty for the usual ones that the corpus has.

    Returns:
        Name to a cell for each clip of the split, in its order.

    Raises:
        UserError: A column was asked for by name and the corpus has none.
    """
    names = [name for name in (bounds_by_name(wanted) if wanted else USUAL) if name not in OWN]
    if prepared.corpus is None or not names:
        if wanted and names:
            raise UserError(f"evaluation.slices: {prepared.name} has no column {', '.join(names)}; remove it")
        return {}
    places = {id: place for place, id in enumerate(prepared.corpus["id"])}
    rows = prepared.corpus.select([places[id] for id in prepared.column("id")])
    extras = [json.loads(text) for text in rows["extra"]]
    known = sorted({name for extra in extras for name in extra})
    columns: dict[str, list[Cell]] = {}
    for name in names:
        source = name if name in known else _ALSO.get(name, name)
        if name == SNR and SNR not in known:
            columns[name] = list(snr_of_clips(row["audio"] for row in rows.select_columns("audio")))
        elif source in known:
            columns[name] = [extra.get(source, "") for extra in extras]
        elif name in OF_ROWS:
            columns[name] = list(rows[name])
        elif wanted:
            there = ", ".join([*OWN, SNR, *OF_ROWS, *known])
            raise UserError(
                f"evaluation.slices: expected a column {name} in the rows of {prepared.name}, found {there}; name "
                "one of these"
            )
    return columns
