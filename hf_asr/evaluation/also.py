"""Scoring the test split and the sets of ``evaluation.also``, before and after: what recipes call.

A set goes the same road as the test split, :func:`hf_asr.evaluation.run.score_split`, in its own language and through
its own normalizer, under the same conditions. Its results are ``also/NAME/baseline`` and ``also/NAME/test``.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hf_asr.config.also import BUILTIN, OWN_FIELDS
from hf_asr.config.arguments import Arguments, DataArguments
from hf_asr.data.corpora import Split, build_splits
from hf_asr.data.non_speech import builtin_clips, sound_of
from hf_asr.data.row_table import table_of
from hf_asr.errors import RunFailed, UserError
from hf_asr.evaluation.guardrails import AFTER, ALSO, BEFORE, compare_sets, exceeded, read_guardrails
from hf_asr.evaluation.non_speech import write_non_speech
from hf_asr.evaluation.other_windows import score_other_windows
from hf_asr.evaluation.run import check_writes_words, decoded_rows, same_results, score_baseline, score_split
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.prepare import prepare_splits
from hf_asr.inference.generate import Conditions, bare_model, on_main
from hf_asr.models.family import ModelFamily
from hf_asr.utterance import Drops

logger = logging.getLogger(__name__)

SPLIT = "test"
# Keys of the data section that say which corpus it is.
OF_A_CORPUS = ("corpus", "path", "transcripts", "name", "subset", "columns")


@dataclass(frozen=True)
class OtherSet:
    """A set of ``evaluation.also``, ready to be read.

    Attributes:
        name: Its key.
        arguments: The whole configuration with the set's corpus, language and normalizer in it.
        builtin: Whether it is the built-in set of clips without speech.
    """

    name: str
    arguments: Arguments
    builtin: bool

    def split(self) -> Split:
        """Read it.

        Raises:
            UserError: Its corpus cannot be read, or has no clips.
        """
        if self.builtin:
            rows = table_of(builtin_clips)
            return Split(SPLIT, rows, Drops(), sum(rows["duration"]))
        try:
            return build_splits(self.arguments.data, seed=self.arguments.experiment.seed, names=(SPLIT,))[SPLIT]
        except UserError as error:
            raise UserError(f"evaluation.also.{self.name}: {error}") from error


def other_sets(arguments: Arguments) -> list[OtherSet]:
    """Return the sets of ``evaluation.also`` in their order."""
    return [_other_set(arguments, name, item) for name, item in arguments.evaluation.also.items()]


def score_before(
    model: Any,
    family: ModelFamily,
    processor: Any,
    prepared: Mapping[str, PreparedSplit],
    conditions: Conditions,
    arguments: Arguments,
    run_dir: Path,
    *,
    left_out: Drops | None = None,
) -> dict[str, Any] | None:
    """Score the untouched model on the test split and on the other sets; see :func:`score_baseline`.

    The other sets are read even where no baseline is wanted: one that cannot be is told now, not after training.

    Returns:
        The results of the test split; None with ``evaluation.baseline`` off.

    Raises:
        UserError: As :func:`score_baseline`, or a set cannot be read.
    """
    splits = {item.name: item.split() for item in other_sets(arguments)}
    baseline = score_baseline(model, family, processor, prepared, conditions, arguments, run_dir, left_out=left_out)
    if baseline is not None:
        score_sets(model, family, processor, conditions, arguments, run_dir, BEFORE, splits)
    return baseline


def score_after(
    model: Any,
    family: ModelFamily,
    processor: Any,
    prepared: PreparedSplit,
    conditions: Conditions,
    arguments: Arguments,
    run_dir: Path,
    *,
    left_out: Drops | None = None,
) -> dict[str, Any]:
    """Score the fine-tuned model on the test split and on the other sets, and set these beside their baselines.

    A model that was trained on less than the full window is scored by both, see
    :mod:`hf_asr.evaluation.other_windows`.

    Returns:
        The results of the test split.

    Raises:
        UserError: As :func:`score_split`, or a set cannot be read.
    """
    results = score_split(model, family, processor, prepared, conditions, arguments, run_dir / AFTER, left_out=left_out)
    score_other_windows(model, family, processor, prepared, conditions, arguments, run_dir, left_out=left_out)
    score_sets(model, family, processor, conditions, arguments, run_dir, AFTER)
    before = run_dir if arguments.evaluation.baseline else None
    on_main(compare_with, arguments, run_dir, before)
    return results


def compare_with(arguments: Arguments, folder: Path, before: Path | None) -> None:
    """Write ``also/guardrails.json``, where there are other sets."""
    if arguments.evaluation.also:
        compare_sets(folder, before, list(arguments.evaluation.also), arguments.evaluation.also_limits)


def check_limits(run_dir: Path) -> None:
    """See that no set lost more than ``evaluation.also_limits`` allows, once everything is written.

    Raises:
        RunFailed: One did.
    """
    found = read_guardrails(run_dir)
    if message := exceeded(found):
        raise RunFailed(f"{message}. The run is whole; its results are in {run_dir}. It was not pushed.")


def score_sets(
    model: Any,
    family: ModelFamily,
    processor: Any,
    conditions: Conditions,
    arguments: Arguments,
    folder: Path,
    part: str,
    splits: Mapping[str, Split] | None = None,
) -> None:
    """Score the sets of ``evaluation.also`` into ``folder/also/NAME/part``; baselines that are there are kept.

    Args:
        model: Model on its device.
        family: Its family.
        processor: Its processor, for the test split's language.
        conditions: Of the test split.
        arguments: The whole configuration.
        folder: A run folder, or that of ``hf-asr evaluate``.
        part: ``baseline`` or ``test``.
        splits: The sets where they were read already.

    Raises:
        UserError: A set cannot be read or scored; a classifier has no words to count.
    """
    check_writes_words(family, arguments)
    for item in other_sets(arguments):
        split = splits[item.name] if splits else item.split()
        _score_set(model, family, processor, conditions, item, split, folder / ALSO / item.name / part)


def _score_set(
    model: Any,
    family: ModelFamily,
    processor: Any,
    conditions: Conditions,
    item: OtherSet,
    split: Split,
    folder: Path,
) -> None:
    own, inner = item.arguments, bare_model(model)
    with _in_language_of(inner, family, processor, own) as chosen:
        encoder = family.make_encoder(chosen, inner.config, own)
        prepared = prepare_splits({SPLIT: split}, encoder, own, trained_on=())[SPLIT]
        earlier = on_main(same_results, folder, prepared, conditions, own.evaluation.normalizer)
        if folder.name == BEFORE and earlier is not None and earlier.get("language") == own.data.language:
            return
        logger.info("scoring %s, language %s", item.name, own.data.language or "not given")
        about = {"set": item.name, "language": own.data.language, "model": own.model.name_or_path}
        if item.builtin:
            rows = decoded_rows(model, family, chosen, prepared, conditions, own, left_out=split.drops)
            rows["rows"]["sound"] = [sound_of(id) for id in rows["rows"]["id"]]
            on_main(write_non_speech, folder, normalizer=own.evaluation.normalizer, about=about, **rows)
        else:
            score_split(model, family, chosen, prepared, conditions, own, folder, left_out=split.drops, about=about)


@contextmanager
def _in_language_of(model: Any, family: ModelFamily, processor: Any, arguments: Arguments) -> Iterator[Any]:
    """Make a model write a set's language, and leave it as it was.

    Yields:
        The processor for that language; the same one where the vocabulary comes from the training texts.
    """
    kept = copy.deepcopy(model.generation_config)
    chosen = processor if family.needs_train else family.load_processor(arguments, None)
    try:
        if not family.needs_train:
            family.set_language(model, chosen, arguments)
        yield chosen
    finally:
        model.generation_config = kept


def _other_set(arguments: Arguments, name: str, item: Any) -> OtherSet:
    builtin = item == BUILTIN
    given: dict[str, Any] = {} if builtin else dict(item)
    own = {key: given.pop(key) for key in OWN_FIELDS if key in given}
    # Columns of the test split's corpus need not be in another one.
    evaluation = replace(
        arguments.evaluation, slices=[], normalizer=own.get("normalizer") or arguments.evaluation.normalizer
    )
    limit = own.get("limit")
    data = arguments.data if builtin else _data_of(arguments.data, given, limit)
    return OtherSet(name, replace(arguments, data=data, evaluation=evaluation), builtin)


def _data_of(data: DataArguments, given: Mapping[str, Any], limit: int | None) -> DataArguments:
    """Return the data section of a set: its corpus is a mapping in the place of the test split's name.

    A set that names a place is another corpus, with columns of its own; one that does not is the same corpus.
    """
    default = asdict(DataArguments())
    shared = {key: given[key] for key in ("language", "min_seconds", "max_seconds") if key in given}
    nothing = {key: default[key] for key in (*OF_A_CORPUS, "sources")}
    elsewhere = {"corpus", "path", "transcripts", "name"} & set(given)
    kept = ("corpus",) if elsewhere else OF_A_CORPUS
    own = {key: value for key in kept if (value := asdict(data)[key]) not in (None, "", {})} | dict(given)
    limits = {SPLIT: limit} if limit else {}
    changed = {"streaming": False, "splits": {SPLIT: own}, "limit": limits}
    return replace(data, **nothing | shared | changed)
