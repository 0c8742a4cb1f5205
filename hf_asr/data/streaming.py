"""The training split as a stream: clips are opened while training, and shuffled in a buffer.

A stream is a ``datasets.IterableDataset`` of many shards, so that processes (``split_dataset_by_node``) and loader
workers each read their own. ``set_epoch`` gives the next epoch another order of shards and another shuffle; both are
functions of seed and epoch. This is a basic stream: what the buffer held is lost when a run is resumed.

The list of clips is read once, at the start, without opening any: what the list tells is filtered and counted then.
Corpora that hold their audio in their rows (Parquet) are read as they are, by one shard a source.

``data.shuffle_buffer`` 0 or 1 keeps the order of the corpus: with one worker the rows are those of the map-style split.

What is found only while streaming (a header that cannot be read, a length that no list tells) takes no place in a
batch, and workers do not share memory, so a row carries the news: its column ``dropped`` lists ``{"id", "error"}`` of
clips left out near it, error being "reason: detail". Whoever consumes rows adds them to its counts, each id once, since
every epoch tells them again. A shard of which nothing is left has no row to tell by; it warns in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import datasets

from hf_asr.config.arguments import DataArguments
from hf_asr.data.audio import BrokenAudio, duration_of
from hf_asr.data.listed import list_sources
from hf_asr.data.resolve import Source, resolve
from hf_asr.data.row_table import ROW_FEATURES
from hf_asr.data.selection import check_broken, read_source, why_left_out
from hf_asr.errors import UserError
from hf_asr.utterance import Drops, Utterance

logger = logging.getLogger(__name__)

# How many shards a table is cut into: the largest that leaves each CLIPS_A_SHARD clips. 960 can be dealt evenly to
# 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24, 30, 32, 40, 48 ... readers.
SHARDS = (960, 240, 48, 12)
CLIPS_A_SHARD = 32
FEW = SHARDS[-1] * CLIPS_A_SHARD
# Rows read at once: 1 to 14 us a row instead of 40 us one by one.
ROWS_AT_ONCE = 100

STREAM_FEATURES = datasets.Features(
    {**ROW_FEATURES, "dropped": datasets.List({"id": datasets.Value("string"), "error": datasets.Value("string")})}
)

Range = tuple[int, int, int]
Row = dict[str, Any]


def stream_rows(data: DataArguments, split: str, seed: int, drops: Drops) -> datasets.IterableDataset:
    """Return a split as a stream of rows.

    The sources of a mixture are drawn by their weights until the first is exhausted; without weights they take turns
    until all are. ``data.limit`` is the same first clips as without streaming; of a mixture it is the first drawn.

    Args:
        data: The data section.
        split: ``train``; validation and test are never streamed.
        seed: ``experiment.seed``.
        drops: Takes what is left out before the stream begins.

    Returns:
        Rows of ``ROW_TYPES`` and ``dropped``.

    Raises:
        UserError: The split is missing, or its corpus cannot be read.
    """
    sources, limit = resolve(data, split), data.limit.get(split)
    in_order = data.shuffle_buffer <= 1
    listed = [source for source in sources if not _holds_audio(source)]
    most = limit if len(sources) == 1 else None
    tables = _list(listed, split, drops, most)
    by_name = {source.name: table for source, table in zip(listed, tables, strict=True)}
    streams = [_stream(source, by_name.get(source.name), split, in_order) for source in sources]
    stream = _mix(streams, [source.weight for source in sources], seed, in_order)
    if limit is not None and (len(sources) > 1 or not listed):
        stream = stream.take(limit)
    return stream if in_order else stream.shuffle(seed=seed, buffer_size=data.shuffle_buffer)


def _list(sources: Sequence[Source], split: str, drops: Drops, most: int | None) -> list[datasets.Dataset]:
    """List sources; headers are only read where few clips are asked for or there.

    A shard of a few clips may lose all of them, and then has no row to tell it by.
    """
    for headers in (most is not None, True):
        found = Drops()
        tables = list_sources(sources, split, found, most=most, headers=headers)
        if headers or min(map(len, tables), default=FEW) >= FEW:
            break
    drops.merge(found)
    return tables


def shards_of(size: int, in_order: bool) -> list[Range]:
    """Cut a table into ranges (first, stop, step) whose sizes differ by one at most.

    In order, each is a stretch. Otherwise each goes through the whole table, so that a corpus sorted by speaker is
    mixed further than a buffer reaches.
    """
    number = next((number for number in SHARDS if size >= number * CLIPS_A_SHARD), SHARDS[-1])
    if not in_order:
        return [(first, size, number) for first in range(number)]
    ends = [shard * (size // number) + min(shard, size % number) for shard in range(number + 1)]
    return [(first, stop, 1) for first, stop in pairwise(ends)]


def listed_rows(shards: Sequence[Range], table: datasets.Dataset, data: DataArguments, split: str) -> Iterator[Row]:
    """Yield the rows of some shards of a table, one shard after the other."""
    for first, stop, step in shards:
        drops = Drops()
        rows = _rows_of(table, range(first, stop, step))
        yield from _told((_with_length(row, data, split, drops) for row in rows), data, split, drops)


def read_rows(shards: Sequence[str], source: Source, split: str) -> Iterator[Row]:
    """Yield the rows of a corpus as its reader gives them; ``shards`` are names of splits."""
    for name in shards:
        drops = Drops()
        utterances = read_source(replace(source, splits=(name,)), drops)
        if source.name:
            utterances = (replace(utterance, id=f"{source.name}:{utterance.id}") for utterance in utterances)
        yield from _told((_kept(found, source.data, split, drops) for found in utterances), source.data, split, drops)


def _rows_of(table: datasets.Dataset, places: range) -> Iterator[Row]:
    for start in range(0, len(places), ROWS_AT_ONCE):
        block = table[places[start : start + ROWS_AT_ONCE]]
        for values in zip(*block.values(), strict=True):
            yield dict(zip(block, values, strict=True))


def _holds_audio(source: Source) -> bool:
    first = next(read_source(source, Drops()), None)
    return first is not None and first.audio.data is not None


def _stream(source: Source, table: datasets.Dataset | None, split: str, in_order: bool) -> datasets.IterableDataset:
    # The one list among the arguments is what datasets deals out to processes and workers.
    arguments: dict[str, Any] = {"split": split}
    if table is None:
        arguments |= {"shards": list(source.splits), "source": source}
    else:
        arguments |= {"shards": shards_of(len(table), in_order), "table": table, "data": source.data}
    generate = read_rows if table is None else listed_rows
    try:
        return datasets.IterableDataset.from_generator(generate, features=STREAM_FEATURES, gen_kwargs=arguments)
    except OSError as error:
        raise UserError(
            f"data.streaming: expected to write a lock into the cache of datasets, found that this fails: {error}. Set "
            "HF_HOME (or HF_DATASETS_CACHE) to a folder that can be written."
        ) from error


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


def _told(rows: Iterator[Row | None], data: DataArguments, split: str, drops: Drops) -> Iterator[Row]:
    """Yield the rows that are kept, each with what was dropped around it; the last waits for the end.

    Args:
        rows: Rows; None where one was left out.
        data: The section that they come from.
        split: Name of the split.
        drops: Where those that produce the rows put what they leave out; emptied here.
    """
    held: Row | None = None
    for row in rows:
        if row is not None and held is not None:
            yield held | {"dropped": _take(drops, data)}
        held = row or held
    dropped = _take(drops, data)
    if held is not None:
        yield held | {"dropped": dropped}
    for item in dropped if held is None else ():
        logger.warning("left out of %s: %s: %s", split, item["id"], item["error"])


def _with_length(row: Row, data: DataArguments, split: str, drops: Drops) -> Row | None:
    """Return a row whose length is known; the others were compared with the limits when they were listed."""
    return row if row["duration"] is not None else _kept(Utterance.from_row(row), data, split, drops)


def _kept(utterance: Utterance, data: DataArguments, split: str, drops: Drops) -> Row | None:
    """Return an utterance's row, its length read from its header when it is not known; None when it is left out."""
    try:
        if utterance.duration is None:
            utterance = replace(utterance, duration=duration_of(utterance.audio))
        fault = why_left_out(utterance, data, split)
    except BrokenAudio as error:
        fault = "broken_audio", str(error)
    if fault:
        drops.add(fault[0], utterance.id, fault[1])
    return None if fault else utterance.as_row()


def _take(drops: Drops, data: DataArguments) -> list[dict[str, str]]:
    """Take what was dropped since the last time."""
    check_broken(data, drops)
    taken = [
        {"id": id, "error": f"{reason}: {detail}"} for reason, items in drops.reasons.items() for id, detail in items
    ]
    drops.reasons.clear()
    return taken
