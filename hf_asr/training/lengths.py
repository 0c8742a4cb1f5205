"""Whether the longest clips fit into batches by padded seconds, told before anything is prepared or decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets

from hf_asr.config.arguments import Arguments
from hf_asr.data.buckets import check_longest
from hf_asr.data.corpora import Split
from hf_asr.features.lengths import padded_seconds
from hf_asr.features.positions import WindowChoice
from hf_asr.inference.batches import cut_batches
from hf_asr.models.family import ModelFamily, collator_for
from hf_asr.training.forecast import training_collator


def check_lengths(
    splits: Mapping[str, Split], arguments: Arguments, family: ModelFamily, processor: Any, model: Any
) -> None:
    """See that no clip is longer than a batch of ``data.batch_seconds`` or ``evaluation.batch_seconds``.

    Args:
        splits: As read. A stream is looked at while it is read.
        arguments: The whole configuration.
        family: The model's family.
        processor: Its processor.
        model: The model, not wrapped.

    Raises:
        UserError: A clip is.
    """
    lengths = {
        name: split.rows["duration"][:] for name, split in splits.items() if isinstance(split.rows, datasets.Dataset)
    }
    training, decoding = arguments.data, arguments.evaluation
    if training.batch_seconds is not None and lengths.get("train"):
        collate = training_collator(arguments, family, processor, model)
        check_longest(padded_seconds(collate, lengths["train"]), training.batch_seconds)
    if decoding.batch_seconds is not None:
        window = WindowChoice.of(arguments.model, decoding.window)
        collate = collator_for(family, processor, model, window)
        for name in ("validation", "test"):
            seconds = lengths.get(name, [])
            cut_batches(seconds, padded_seconds(collate, seconds), decoding.batch_size, decoding.batch_seconds)
