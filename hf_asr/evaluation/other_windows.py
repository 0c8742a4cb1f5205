"""Both kinds of WER of a model that was trained on less than the full window: decoded by that window, and by the full.

``evaluation.window`` decides which of them is ``test/``; the other is ``test_clip/``, ``test_thinned/`` or
``test_full/``. The full one, which all other programs run, is the one that counts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.evaluation.intervals import Rate
from hf_asr.evaluation.report import RESULTS, read_results
from hf_asr.evaluation.run import score_split
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.lengths import padded_seconds
from hf_asr.inference.generate import Conditions, bare_model
from hf_asr.models.family import ModelFamily, collator_for
from hf_asr.models.whisper_thin import check_options
from hf_asr.utterance import Drops

logger = logging.getLogger(__name__)


def other_windows(arguments: Arguments) -> list[str]:
    """Return the windows that are scored beside ``evaluation.window``: none where ``model.window`` is full."""
    trained, decoded = arguments.model.window, arguments.evaluation.window
    return [] if trained == "full" else [window for window in ("full", trained) if window != decoded]


def folder_of(run_dir: Path, window: str) -> Path:
    """Return where a window's results are, beside ``test/``."""
    return run_dir / f"test_{window}"


def score_other_windows(
    model: Any,
    family: ModelFamily,
    processor: Any,
    prepared: PreparedSplit,
    conditions: Conditions,
    arguments: Arguments,
    run_dir: Path,
    *,
    left_out: Drops | None = None,
) -> None:
    """Score the test split by :func:`other_windows`, with the arguments of :func:`~hf_asr.evaluation.run.score_split`.

    A window that ``evaluation.generation`` does not go with is left out, and the log says why. A batch of
    ``evaluation.batch_seconds`` that one clip of the other window does not fit into is made as large as that clip.
    """
    for window in other_windows(arguments):
        try:
            if window != "full":
                check_options(model.generation_config.to_dict() | dict(conditions.generation))
        except UserError as error:
            logger.warning("not scored by the %s window that it was trained on: %s", window, error)
            continue
        score_split(
            model,
            family,
            processor,
            prepared,
            with_room(replace(conditions, window=window), model, family, processor, prepared),
            arguments,
            folder_of(run_dir, window),
            left_out=left_out,
            detailed_analysis=False,
        )


def with_room(
    conditions: Conditions, model: Any, family: ModelFamily, processor: Any, prepared: PreparedSplit
) -> Conditions:
    """Return the conditions with batches that hold at least the longest clip: it is longer in a larger window."""
    if conditions.batch_seconds is None:
        return conditions
    collate = collator_for(family, processor, bare_model(model), conditions.choice())
    longest = max(padded_seconds(collate, prepared.column("duration")), default=0.0)
    return replace(conditions, batch_seconds=max(conditions.batch_seconds, longest))


def lines_of_windows(run_dir: Path, arguments: Arguments, rate: Rate) -> Iterator[tuple[str, str]]:
    """Yield (window, rate with its interval) of the other windows, for screens."""
    for window in other_windows(arguments):
        if (folder_of(run_dir, window) / RESULTS).is_file():
            found = read_results(folder_of(run_dir, window))
            yield f"{window} window", f"{rate.upper()} {_with_interval(rate, found)}{_what(window)}"


def notes_of_windows(run_dir: Path, arguments: Arguments, rate: Rate) -> list[str]:
    """Return a sentence for the card on each of the other windows."""
    decoded = arguments.evaluation.window
    return [
        f"Trained on the {arguments.model.window} window. The results above are decoded by the {decoded} window; by "
        f"the {name}: {text}."
        for name, text in lines_of_windows(run_dir, arguments, rate)
    ]


def _what(window: str) -> str:
    return ", which other programs run" if window == "full" else ", which it was trained on"


def _with_interval(rate: Rate, results: Mapping[str, Any]) -> str:
    low, high = results[f"{rate}_interval"]
    return f"{100 * results[rate]:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"
