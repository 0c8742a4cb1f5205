"""``hf-asr evaluate --sweep``: every combination of some decoding knobs, on validation, the model loaded once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.cli.loading import load_for, make_folder, on_this_device
from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.evaluation.sweep import Knob, grid, markdown, overrides, read_knobs, row_name, summarize_sweep

if TYPE_CHECKING:
    from hf_asr.features.cache import PreparedSplit


def check_split(split: str | None) -> str:
    """Return the split that knobs are chosen on.

    Raises:
        UserError: It is another one than validation: what was chosen on test cannot be measured on test.
    """
    if split not in (None, "validation"):
        raise UserError(
            f"--sweep: expected the validation split, found --split {split}: a result on the clips that settings were "
            "chosen on is too good. Sweep on validation, then score test once with the row you take."
        )
    return "validation"


def run_sweep(options: argparse.Namespace, read: Any) -> int:
    """Sweep, write sweep.json and sweep.md, print the table; return 0.

    Args:
        options: The verb's options; ``sweep`` has the knobs.
        read: (options, more overrides) -> the whole configuration.

    Raises:
        UserError: A knob is unknown or has impossible values, or the split is not validation.
    """
    split = check_split(options.split)
    knobs = read_knobs(options.sweep)
    if options.long_form:
        raise UserError("--sweep: expected clips, found --long-form; sweep on clips, or give one setting at a time")
    arguments = [read(options, overrides(knobs, row)) for row in grid(knobs)]

    make_folder(options.output_dir)
    state = on_this_device(arguments[0])
    results = score_rows(arguments, knobs, split, options.output_dir, state)
    if state.is_main_process:
        from hf_asr.evaluation.screen import main_rate

        rate = main_rate(arguments[0].data.language)
        print(markdown(summarize_sweep(options.output_dir, knobs, results, rate=rate, split=split)), end="")
        print(options.output_dir / "sweep.json")
    return 0


def score_rows(
    arguments: Sequence[Arguments], knobs: Sequence[Knob], split: str, folder: Path, state: Any
) -> list[Mapping[str, Any]]:
    """Score every row into ``folder/sweep/ROW``; rows that are there, of the same clips and model, are kept."""
    from hf_asr.evaluation.run import same_results, score_split
    from hf_asr.inference.generate import generate_dataset, on_main, resolve_conditions

    loaded = load_for(arguments[0], split, state.device)
    family, prepared = loaded.family, loaded.prepared
    if family.scoring != "words":
        raise UserError(f"--sweep: expected a model that writes words, found a {family.name}; leave it out")
    conditions = [resolve_conditions(family, row, state.device, loaded.model.dtype) for row in arguments]
    for one in conditions:
        family.check_decoding(loaded.model, one.generation)
    generate_dataset(
        loaded.model, family, loaded.processor, first_clips(prepared, conditions[0].batch_size), conditions[0]
    )
    results, name = list[Mapping[str, Any]](), arguments[0].model.name_or_path
    for number, (row, one, settings) in enumerate(zip(arguments, conditions, grid(knobs), strict=True), 1):
        place = folder / "sweep" / row_name(settings)
        found = on_main(same_results, place, prepared, one, row.evaluation.normalizer)
        if found is None or found.get("model") != name:
            tell(state, f"{number} of {len(arguments)}: {place.name}")
            found = score_split(
                loaded.model, family, loaded.processor, prepared, one, row, place,
                left_out=loaded.drops, about={"model": name}, detailed_analysis=False,
            )  # fmt: skip
        else:
            tell(state, f"{number} of {len(arguments)}: {place.name}: kept")
        results.append(found)
    return results


def first_clips(prepared: PreparedSplit, number: int) -> PreparedSplit:
    """Return the first clips of a split, to warm up on: a first batch is slow, which says nothing of its row."""
    number = min(number, len(prepared.rows))
    assert prepared.table is not None
    clips: Any = prepared.rows
    rows: Any = [clips[place] for place in range(number)]
    return replace(prepared, rows=rows, table=prepared.table.select(range(number)), corpus=None)


def tell(state: Any, line: str) -> None:
    """Say how far it is, on stderr."""
    if state.is_main_process:
        print(line, file=sys.stderr, flush=True)
