"""The training split as a stream: rows are read while training, filtered on the way, shuffled in a buffer.

A stream is a ``datasets.IterableDataset`` of several shards, so that processes (``split_dataset_by_node``) and loader
workers each read their own. ``set_epoch`` gives the next epoch another order of shards and another shuffle; both are
functions of seed and epoch. This is a basic stream: what the buffer held is lost when a run is resumed.

With ``data.shuffle_buffer: 1`` or a ``data.limit.train`` there is one shard a part, in the order of the corpus, so that
the stream has the clips that the map-style split has, in its order; one worker reads it. So it is for corpora that hold
their audio in their rows (Parquet), which cannot be passed over without reading it.

What a filter leaves out does not take a place in a batch, and workers do not share memory, so a row carries the news:
its column ``dropped`` lists ``{"id", "error"}`` of clips left out near it, error being "reason: detail" as everywhere.
Whoever consumes rows adds them to its counts, each id once, since every epoch tells them again. Ids that two parts of
a split have in common are not noticed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import datasets

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audio import BrokenAudio, duration_of
from hf_asr.data.resolve import Part, Source, resolve
from hf_asr.data.row_table import ROW_FEATURES
from hf_asr.data.selection import check_broken, read_part, why_left_out
from hf_asr.utterance import Drops, Utterance

logger = logging.getLogger(__name__)

# Every shard reads the list of its part and keeps every SHARDS-th clip. Reading costs 10 us a clip, encoding 20 ms, so
# this adds 2 %; 48 can be dealt evenly to 1, 2, 3, 4, 6, 8, 12, 16 and 24 processes.
SHARDS = 48

STREAM_FEATURES = datasets.Features(
    {**ROW_FEATURES, "dropped": datasets.List({"id": datasets.Value("string"), "error": datasets.Value("string")})}
)

Shard = tuple[int, int, int]


def stream_rows(data: DataArguments, split: str, seed: int) -> datasets.IterableDataset:
    """Return a split as a stream of rows.

    The sources of a mixture are drawn by their weights until the first is exhausted; without weights they take turns
    until all are.

    Args:
        data: The data section.
        split: ``train``; validation and test are never streamed.
        seed: ``experiment.seed``.

    Returns:
        Rows of ``ROW_TYPES`` and ``dropped``.

    Raises:
        UserError: The split is missing, or its corpus cannot be read.
    """
    sources, limit = resolve(data, split), data.limit.get(split)
    in_order = data.shuffle_buffer == 1 or limit is not None
    streams = [_stream(source, split, in_order) for source in sources]
    stream = _mix(streams, [source.weight for source in sources], seed, in_order)
    if limit is not None:
        stream = stream.take(limit)
    return stream if data.shuffle_buffer == 1 else stream.shuffle(seed=seed, buffer_size=data.shuffle_buffer)


def shard_rows(shards: Sequence[Shard], source: Source, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of some shards, one shard after the other.

    Args:
        shards: (index of the part, first clip, step) of each.
        source: What the parts belong to.
        split: ``train``.
    """
    for part, first, step in shards:
        yield from _rows(source.parts[part], source.name, split, first, step)


def _stream(source: Source, split: str, in_order: bool) -> datasets.IterableDataset:
    numbers = [1 if in_order or _holds_audio(part) else SHARDS for part in source.parts]
    # A list in gen_kwargs is what datasets deals out to processes and workers; the rest is given to all.
    shards = [(part, first, number) for part, number in enumerate(numbers) for first in range(number)]
    return datasets.IterableDataset.from_generator(
        shard_rows, features=STREAM_FEATURES, gen_kwargs={"shards": shards, "source": source, "split": split}
    )


def _holds_audio(part: Part) -> bool:
    """Look at the first clip; what is wrong with the corpus as a whole is found here, and not in a worker."""
    first = next(read_part(part, Drops()), None)
    return first is not None and first.audio.data is not None


def _mix(
    streams: list[datasets.IterableDataset], weights: list[float | None], seed: int, in_order: bool
) -> datasets.IterableDataset:
    if len(streams) == 1:
        return streams[0]
    given = [weight for weight in weights if weight is not None]
    if given:
        shares = [weight / sum(given) for weight in given]
        return datasets.interleave_datasets(streams, shares, seed=seed, stopping_strategy="first_exhausted")
    if in_order:
        return datasets.concatenate_datasets(streams)
    return datasets.interleave_datasets(streams, stopping_strategy="all_exhausted_without_replacement")


def _rows(part: Part, prefix: str, split: str, first: int, step: int) -> Iterator[dict[str, Any]]:
    """Yield every ``step``-th clip that is kept; the last one waits for the end, to carry what was dropped after it."""
    seen_by_all, own = Drops(), Drops()
    held: Utterance | None = None
    for utterance in islice(read_part(part, seen_by_all), first, None, step):
        timed = _timed(utterance, own)
        fault = timed and why_left_out(timed, part.data, split)
        if timed is None or fault:
            if fault:
                own.add(fault[0], utterance.id, fault[1])
            continue
        if held is not None:
            yield _row(held, prefix, _told(part.data, seen_by_all, own, first))
        held = timed
    told = _told(part.data, seen_by_all, own, first)
    if held is not None:
        yield _row(held, prefix, told)
    elif told:
        logger.warning("%s, shard %d of %d: every clip was left out: %s", part.split, first, step, told[:20])


def _timed(utterance: Utterance, drops: Drops) -> Utterance | None:
    """Give an utterance its duration; the header of one clip is read when it comes, never those of all."""
    if utterance.duration is not None:
        return utterance
    try:
        return replace(utterance, duration=duration_of(utterance.audio))
    except BrokenAudio as error:
        drops.add("broken_audio", utterance.id, str(error))
        return None


def _told(data: DataArguments, seen_by_all: Drops, own: Drops, first: int) -> list[dict[str, str]]:
    """Take what was dropped since the last time; what every shard sees of its part is told by the first only."""
    told = Drops()
    told.merge(own)
    if first == 0:
        told.merge(seen_by_all)
    own.reasons.clear()
    seen_by_all.reasons.clear()
    check_broken(data, told)
    return [
        {"id": id, "error": f"{reason}: {detail}"} for reason, items in told.reasons.items() for id, detail in items
    ]


def _row(utterance: Utterance, prefix: str, dropped: list[dict[str, str]]) -> dict[str, Any]:
    row = utterance.as_row() | {"dropped": dropped}
    return row | {"id": f"{prefix}:{utterance.id}"} if prefix else row
