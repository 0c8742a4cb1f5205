"""Whether a run's batches can be cut as asked: told before the run is begun, not after its baseline.

Which lengths clips have once they are padded is known as soon as corpus and model are read. A stream tells the lengths
of its clips only while it is read; of it, what the shortest one takes is looked at: the model's window, where that is
full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from datasets import Dataset

from hf_asr.config.arguments import Arguments, DataArguments
from hf_asr.data.buckets import check_longest
from hf_asr.data.corpora import Split
from hf_asr.data.stream_batches import windows_in
from hf_asr.features.collate import Collator
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.lengths import padded_seconds
from hf_asr.features.positions import WindowChoice
from hf_asr.inference.batches import cut_batches
from hf_asr.models.family import ModelFamily, collator_for
from hf_asr.training.forecast import training_collator
from hf_asr.utterance import Seconds


def check_batches(
    splits: Mapping[str, Split],
    encoder: ClipEncoder,
    arguments: Arguments,
    family: ModelFamily,
    processor: Any,
    model: Any,
) -> None:
    """See that the family has both windows, and that batches of seconds hold the longest clips of every split.

    Args:
        splits: From :func:`hf_asr.data.corpora.build_splits`.
        encoder: The family's; clips that it does not take are not looked at.
        arguments: The whole configuration.
        family: The model's family.
        processor: Its processor.
        model: The model.

    Raises:
        UserError: ``data.batch_seconds`` or ``evaluation.batch_seconds`` is below the longest clip, or a window is not
            full and the family has no other.
    """
    evaluation, window = arguments.evaluation, WindowChoice.of(arguments.model)
    collate = training_collator(arguments, family, processor, model)
    decoding = collator_for(family, processor, model, replace(window, name=evaluation.window))
    if arguments.data.batch_seconds is not None:
        check_train(splits["train"], encoder, arguments.data, collate)
    if evaluation.batch_seconds is None:
        return
    for name in splits.keys() - {"train"}:
        lengths = clip_lengths(splits[name], encoder)
        cut_batches(lengths, padded_seconds(decoding, lengths), evaluation.batch_size, evaluation.batch_seconds)


def check_train(split: Split, encoder: ClipEncoder, data: DataArguments, collate: Collator) -> None:
    """See that batches of ``data.batch_seconds`` hold the longest training clip, or a window of joined clips.

    Raises:
        UserError: They do not.
    """
    assert data.batch_seconds is not None
    if data.pack and data.streaming:
        windows_in(data.batch_seconds, *padded_seconds(collate, [0.0]))
        return
    # Whatever joined clips fill of them, all windows take what the full one does.
    lengths = [0.0] if data.pack else clip_lengths(split, encoder)
    check_longest(max(padded_seconds(collate, lengths), default=0.0), data.batch_seconds)


def clip_lengths(split: Split, encoder: ClipEncoder) -> list[Seconds]:
    """Return the lengths of the clips that an encoder takes; of a stream that of a clip of no length."""
    if not isinstance(split.rows, Dataset):
        return [0.0]
    return [seconds for seconds in split.rows["duration"] if not encoder.length_problem(seconds)]
