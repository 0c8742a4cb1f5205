"""The training split as a stream: clips are opened while training, in an order that can be gone through again.

Nothing is prepared: no feature cache, and of shards only those that are being read lie on the disk. What a stream is
made of decides how processes share it:

* A corpus that is listed (a TSV, a manifest, GigaSpeech.json) is read at any place, so all processes go through one
  order and each takes its part of every step, as without streaming. The order does not depend on how many there are.
* Shards (Parquet, WebDataset tars, on this machine or another) are dealt to the processes, each of which goes through
  its own. Another number of processes has another order.

In both, workers only decide who reads a clip, never which clip comes next.

The order itself is made of places, see :mod:`hf_asr.data.stream_order`: going through an epoch again costs no audio.
``data.shuffle_buffer`` 0 or 1 keeps the order of the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets

from hf_asr.config.arguments import DataArguments
from hf_asr.data.listed import list_sources
from hf_asr.data.resolve import Source, resolve
from hf_asr.data.selection import read_source
from hf_asr.data.shards import Shard, ShardedSource, find_shards
from hf_asr.data.stream import FEW, ListedSource, Stream
from hf_asr.data.stream_order import Shuffle
from hf_asr.utterance import Drops


def stream_rows(data: DataArguments, split: str, seed: int, drops: Drops) -> Stream:
    """Open a split as a stream.

    Sources with weights are drawn by them until the first is exhausted; without weights every clip comes once.
    ``data.limit`` is the same first clips as without streaming; of a mixture, or of shards, an epoch ends behind it.

    Args:
        data: The data section.
        split: ``train``; validation and test are never streamed.
        seed: ``experiment.seed``.
        drops: Takes what is left out before the stream begins.

    Raises:
        UserError: The split is missing, or its corpus cannot be read.
    """
    sources, limit = resolve(data, split), data.limit.get(split)
    weights = tuple(source.weight for source in sources if source.weight is not None)
    how = Shuffle(seed, data.shuffle_buffer, weights)
    shards = [_shards(source) for source in sources]
    listed = [source for source, found in zip(sources, shards, strict=True) if not found]
    tables = iter(_list(listed, split, drops, limit if len(sources) == 1 else None, data.batch_seconds is not None))
    parts = [
        ShardedSource(source, found, split, source.name) if found else ListedSource(next(tables), how.in_order)
        for source, found in zip(sources, shards, strict=True)
    ]
    return Stream(parts, how, limit=limit, max_seconds=data.max_seconds)


def _shards(source: Source) -> list[Shard]:
    """Return a source's shards; none where its rows only name files, as those of a Parquet file may as well."""
    found = find_shards(source)
    if found and source.data.corpus != "webdataset":
        first = next(read_source(source, Drops()), None)
        found = found if first is not None and first.audio.data is not None else []
    return found


def _list(
    sources: Sequence[Source], split: str, drops: Drops, most: int | None, lengths: bool
) -> list[datasets.Dataset]:
    """List sources; headers are only read where few clips are asked for or there, or batches need their lengths."""
    for headers in (lengths or most is not None, True):
        found = Drops()
        tables = list_sources(sources, split, found, most=most, headers=headers)
        if headers or min(map(len, tables), default=FEW) >= FEW:
            break
    drops.merge(found)
    return tables
