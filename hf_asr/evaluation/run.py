"""Score a model on a split: decode, count, write. The recipe's baseline and test and ``hf-asr evaluate`` are this."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.config.arguments import Arguments
from hf_asr.errors import UserError
from hf_asr.evaluation.analysis import About
from hf_asr.evaluation.classes import write_scores
from hf_asr.evaluation.clip_columns import clip_columns
from hf_asr.evaluation.intervals import Rate
from hf_asr.evaluation.report import RESULTS, read_predictions, read_results, write_results
from hf_asr.evaluation.scoring import REFERENCE
from hf_asr.features.cache import PreparedSplit
from hf_asr.inference.generate import Conditions, Generated, generate_dataset, on_main
from hf_asr.models.family import ModelFamily
from hf_asr.text import cer_first
from hf_asr.utterance import Drops, Hypothesis

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


def score_split(
    model: PreTrainedModel,
    family: ModelFamily,
    processor: ProcessorMixin,
    prepared: PreparedSplit,
    conditions: Conditions,
    arguments: Arguments,
    output_dir: Path,
    *,
    left_out: Drops | None = None,
    save_predictions: bool = True,
    about: Mapping[str, Any] | None = None,
    detailed_analysis: bool = True,
) -> dict[str, Any]:
    """Decode a split on all processes, score it on the main one and write its files there.

    Args:
        model: Model on its device.
        family: Its family.
        processor: Its feature extractor and tokenizer.
        prepared: The split's encoded rows.
        conditions: From ``inference.generate.resolve_conditions``.
        arguments: The whole configuration; ``evaluation`` and ``experiment.seed`` are used.
        output_dir: Folder of test_results.json and test_predictions.csv, made when missing.
        left_out: What the corpus left out of the split (``Split.drops``), to be told in test_results.json too.
        save_predictions: Whether to write test_predictions.csv.
        about: More keys for test_results.json.
        detailed_analysis: Whether to write test_detailed_analysis.json, of a family that writes words.

    Returns:
        What test_results.json holds, on every process.

    Raises:
        UserError: A generation option the model does not know, a column of ``evaluation.slices`` that the corpus lacks,
            nothing to score, or a folder that cannot be written.
    """
    words, slices = family.scoring == "words", arguments.evaluation.slices
    # Read before anything is decoded: a name that is wrong is told now, not after an hour.
    cells = on_main(clip_columns, prepared, slices) if words and (detailed_analysis or save_predictions) else {}
    shared = decoded_rows(model, family, processor, prepared, conditions, arguments, left_out=left_out)
    shared |= {"save_predictions": save_predictions, "about": about}
    shared["rows"] |= cells
    if family.scoring != "words":
        targets: Any = processor
        known = {"guess": targets.guess, "classes": targets.classes}
        return on_main(write_scores, output_dir, scoring=family.scoring, **known, **shared)
    evaluation = arguments.evaluation
    scoring = {"normalizer": evaluation.normalizer, "metrics": evaluation.metrics}
    analysis = _about(arguments, about) if detailed_analysis else None
    return on_main(write_results, output_dir, analysis=analysis, **scoring, **shared)


def decoded_rows(
    model: PreTrainedModel,
    family: ModelFamily,
    processor: ProcessorMixin,
    prepared: PreparedSplit,
    conditions: Conditions,
    arguments: Arguments,
    *,
    left_out: Drops | None = None,
) -> dict[str, Any]:
    """Decode a split on all processes; return what those who write results are told of it.

    Args:
        model: Model on its device.
        family: Its family.
        processor: Its processor.
        prepared: The split's encoded rows.
        conditions: How it is decoded.
        arguments: The whole configuration; ``experiment.seed`` is used.
        left_out: What the corpus left out of the split.
    """
    generated = generate_dataset(model, family, processor, prepared, conditions)
    for line in generated.drops.lines():
        logger.warning("left out of %s: %s", prepared.name, line)
    return {
        "rows": _columns(prepared, generated, REFERENCE[family.scoring]),
        "hypotheses": generated.hypotheses,
        "skipped": _merged(left_out or Drops(), prepared.drops, generated.drops),
        "conditions": conditions.as_dict(),
        "wall_seconds": generated.wall_seconds,
        "split": prepared.name,
        "seed": arguments.experiment.seed,
    }


def check_writes_words(family: ModelFamily, arguments: Arguments) -> None:
    """See that other sets are asked for only of a model that writes words.

    Raises:
        UserError: It names classes or numbers.
    """
    if arguments.evaluation.also and family.scoring != "words":
        raise UserError(
            f"evaluation.also: expected a model that writes words, found a {family.name}; remove evaluation.also"
        )


def score_baseline(
    model: PreTrainedModel,
    family: ModelFamily,
    processor: ProcessorMixin,
    prepared: Mapping[str, PreparedSplit],
    conditions: Conditions,
    arguments: Arguments,
    run_dir: Path,
    *,
    left_out: Drops | None = None,
) -> dict[str, Any] | None:
    """Score the untouched model on the test split, into ``run_dir/baseline``; None with ``evaluation.baseline`` off.

    A resumed run keeps the baseline it has, where it was made on the same clips under the same conditions.
    """
    if not arguments.evaluation.baseline:
        return None
    folder = run_dir / "baseline"
    earlier = on_main(same_results, folder, prepared["test"], conditions, arguments.evaluation.normalizer)
    if earlier is not None:
        return earlier
    return score_split(model, family, processor, prepared["test"], conditions, arguments, folder, left_out=left_out)


def score_guess(
    family: ModelFamily,
    processor: Any,
    prepared: PreparedSplit,
    conditions: Conditions,
    arguments: Arguments,
    output_dir: Path,
    *,
    left_out: Drops | None = None,
) -> dict[str, Any] | None:
    """Score what one would say without listening, train's commonest class or its mean; None without a baseline.

    Args:
        family: A classifier's or regressor's.
        processor: Knows the guess.
        prepared: The test split.
        conditions: Stored beside the scores, as those of the model are.
        arguments: The whole configuration.
        output_dir: Folder of the results.
        left_out: What the corpus left out of the split.
    """
    check_writes_words(family, arguments)
    if not arguments.evaluation.baseline:
        return None
    columns = {name: prepared.column(name) for name in ("id", "label", "speaker", "duration")}
    return on_main(
        write_scores,
        output_dir,
        scoring=family.scoring,
        rows=columns,
        hypotheses=[Hypothesis(id, processor.guess) for id in columns["id"]],
        skipped=_merged(left_out or Drops(), prepared.drops),
        conditions=conditions.as_dict(),
        wall_seconds=None,
        guess=processor.guess,
        classes=processor.classes,
        split=prepared.name,
        seed=arguments.experiment.seed,
    )


def _columns(prepared: PreparedSplit, generated: Generated, reference: str) -> dict[str, list[Any]]:
    """Return the split's columns, durations being those of the prepared audio, cached or not."""
    columns = {name: prepared.column(name) for name in ("id", reference, "speaker")}
    ids = (hypothesis.id for hypothesis in generated.hypotheses)
    seconds = dict(zip(ids, generated.durations, strict=True))
    return columns | {"duration": [seconds.get(id) for id in columns["id"]]}


def _about(arguments: Arguments, about: Mapping[str, Any] | None) -> About:
    """Return what the analysis is told; slices of languages written without spaces go by characters."""
    language = arguments.data.language
    rate: Rate = "cer" if cer_first(language) else "wer"
    model = (about or {}).get("model", arguments.model.name_or_path)
    return About(model=model, language=language, rate=rate, slices=arguments.evaluation.slices)


def _merged(*parts: Drops) -> Drops:
    merged = Drops()
    for part in parts:
        merged.merge(part)
    return merged


def same_results(
    folder: Path, prepared: PreparedSplit, conditions: Conditions, normalizer: str
) -> dict[str, Any] | None:
    """Return the results in a folder where they are of the same clips under the same conditions, else None."""
    if not (folder / RESULTS).is_file():
        return None
    earlier = read_results(folder)
    wanted = {**conditions.as_dict(), "normalizer": normalizer}
    if {name: earlier.get(name) for name in wanted} != wanted:
        return None
    skipped = {id for items in earlier["skipped_items"].values() for id, _ in items}
    ids = [id for id in prepared.column("id") if id not in skipped]
    return earlier if [row["id"] for row in read_predictions(folder)] == ids else None
