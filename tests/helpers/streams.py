"""A table as a stream."""

from __future__ import annotations

import datasets

from hf_asr.data.stream import ListedSource, Stream
from hf_asr.data.stream_order import Shuffle


def stream_of_table(table: datasets.Dataset, buffer: int = 1) -> Stream:
    """Return a stream of a table's rows, in their order unless there is a buffer."""
    return Stream([ListedSource(table, buffer <= 1)], Shuffle(0, buffer))
