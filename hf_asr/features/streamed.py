"""A stream's clips, encoded when their place comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from torch.utils.data import Dataset

from hf_asr.data.stream import Stream
from hf_asr.data.stream_batches import FILLER, Windows
from hf_asr.data.stream_order import Place

Encode = Callable[[Mapping[str, Any]], dict[str, Any]]
Join = Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]

# Left out of its batch, which is then one filler of zeros, and not told.
FILLER_ROW: dict[str, Any] = {"id": "", "error": "filler", "padding": True}


class StreamRows(Dataset[dict[str, Any]]):
    """Rows of a stream by their place, encoded; what cannot be has its ``error`` set, so that no place moves.

    Args:
        stream: The stream.
        encode: From a corpus row to an encoded one.
        join: From the encoded rows of a window of several clips to one; None where clips are not joined.
        windows: From places to those of each window.
    """

    def __init__(
        self, stream: Stream, encode: Encode, join: Join | None = None, windows: Windows | None = None
    ) -> None:
        self.stream = stream
        self.encode = encode
        self.join = join
        self.windows = windows

    def joined(
        self, join: Join, windows: Callable[[Stream, Iterator[Place]], Iterator[tuple[Place, ...]]]
    ) -> StreamRows:
        """Return the same stream, read by windows."""
        return StreamRows(self.stream, self.encode, join, partial(windows, self.stream))

    def __len__(self) -> int:
        expected = self.stream.expected
        if expected is None:
            raise TypeError("nothing tells how many clips this stream has")
        return expected

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the first epoch, for those who want to look at some."""
        found = self.stream.places(0)
        return (self[place] for place in (found if self.windows is None else self.windows(found)))

    def __getitem__(self, place: Place | Sequence[Place]) -> dict[str, Any]:
        if place == FILLER:
            return FILLER_ROW
        if self.join is None:
            return self.encode(self.stream.row(cast(Place, place)))
        return self.join([self.encode(self.stream.row(one)) for one in cast(Sequence[Place], place)])
