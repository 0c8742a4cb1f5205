"""What `hf-asr doctor` looks at of ``evaluation.also``: are the sets there, can they be read and scored, how large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hf_asr.cli.machine import check_disk
from hf_asr.cli.preflight_sample import MAX_DECODED, Sample, TextSide, check_sample_of_audio, transcripts_of
from hf_asr.config.arguments import Arguments
from hf_asr.data import checks
from hf_asr.data.checks import Check
from hf_asr.data.corpora import Split
from hf_asr.errors import UserError
from hf_asr.evaluation.also import OtherSet, other_sets
from hf_asr.evaluation.counts import check_texts
from hf_asr.evaluation.run import check_writes_words
from hf_asr.features.cache import cache_dir, forecast_bytes
from hf_asr.text import apply_pipeline


def check_other_sets(arguments: Arguments, text_side: TextSide | None) -> Iterator[Check]:
    """Yield the checks of every set that is scored beside the test split, and what all of them take.

    Args:
        arguments: The whole configuration.
        text_side: The model's; None without a model.
    """
    if not arguments.evaluation.also:
        return
    if text_side is not None:
        try:
            check_writes_words(text_side.family, arguments)
        except UserError as error:
            yield _finding("evaluation.also", "a model that writes words", error)
            return
    splits = []
    for item in other_sets(arguments):
        name = f"evaluation.also.{item.name}"
        try:
            split = replace(item.split(), name=name)
        except UserError as error:
            yield _finding(name, "a set that can be read", error)
            continue
        splits.append(split)
        yield from _check_set(item, split, text_side)
    yield _forecast(splits, arguments)
    if arguments.features.cache and text_side is not None:
        needed = sum(forecast_bytes(split.seconds or 0.0, len(split.rows), text_side.encoder) for split in splits)
        yield check_disk(cache_dir(arguments.features), needed, "the features of evaluation.also")


def _check_set(item: OtherSet, split: Split, text_side: TextSide | None) -> Iterator[Check]:
    sample = Sample(split)
    yield checks.check_split(split.name, sample.size, split.seconds, split.drops)
    if not item.builtin:
        audio = check_sample_of_audio([sample], MAX_DECODED // len(item.arguments.evaluation.also))
        yield replace(audio, name=f"{split.name}: {audio.name}")
        yield from _check_references(item, sample)
    if text_side is not None and not text_side.family.needs_train:
        yield from _check_language(item, split.name, text_side)


def _check_references(item: OtherSet, sample: Sample) -> Iterator[Check]:
    """Yield what of the texts would stop or spoil the scoring: no words at all, letters of another language."""
    transcripts = list(transcripts_of(sample, item.arguments))
    normalizer = item.arguments.evaluation.normalizer
    try:
        check_texts([apply_pipeline(normalizer, transcript.text) for transcript in transcripts], normalizer)
    except UserError as error:
        yield _finding(sample.split.name, "references with words", error)
    script = checks.check_script(transcripts)
    yield replace(script, name=f"{sample.split.name}: {script.name}")


def _check_language(item: OtherSet, name: str, text_side: TextSide) -> Iterator[Check]:
    """Yield what the family says about the set's language, where that is news."""
    try:
        processor = text_side.family.load_processor(item.arguments, None)
        notes = text_side.family.notes(item.arguments, processor)
    except UserError as error:
        yield _finding(name, "a language that the model can write", error)
        return
    yield from (Check(name, ok=True, found=note) for note in notes if note not in text_side.notes)


def _forecast(splits: Sequence[Split], arguments: Arguments) -> Check:
    clips, seconds = sum(len(split.rows) for split in splits), sum(split.seconds or 0.0 for split in splits)
    times = "twice, before the training and after it" if arguments.evaluation.baseline else "once, after the training"
    found = f"{len(splits)} sets, {clips:,} clips, {seconds / 3600:.2f} h to decode {times}"
    return Check("evaluation.also", ok=True, found=found)


def _finding(name: str, expected: str, error: UserError) -> Check:
    return Check(name, ok=False, expected=expected, found=str(error), do="As it says.")
