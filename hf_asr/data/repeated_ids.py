"""Ids that two shards of a stream share: shards are opened one by one, so nobody has all ids at once.

An id is kept as 8 bytes of its hash, beside 4 that name its shard: 10,000 h, some 7 million clips, take 86 MB. Two
different ids of so many have the same hash with a chance of 1 in 700,000 (n^2 / 2^65).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

import numpy as np


def packed(ids: Iterable[str]) -> str:
    """Return the hashes of some ids as text, 11 characters each."""
    hashes = (hashlib.blake2b(id.encode("utf-8", "surrogateescape"), digest_size=8).digest() for id in ids)
    return base64.b64encode(b"".join(hashes)).decode()


def unpacked(text: str) -> np.ndarray:
    """Return the hashes (N,) that :func:`packed` wrote."""
    return np.frombuffer(base64.b64decode(text), "<u8")


class SeenIds:
    """The ids of the shards that a process has opened so far."""

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.uint64)  # sorted
        self._shards = np.empty(0, np.int32)

    def add(self, shard: int, hashes: np.ndarray) -> list[tuple[int, int]]:
        """Add a shard's ids; return (row, earlier shard) of each that an earlier shard has.

        Args:
            shard: Its number.
            hashes: Hashes (N,) of its ids.
        """
        places = np.searchsorted(self._hashes, hashes)
        there = places < len(self._hashes)
        there[there] = self._hashes[places[there]] == hashes[there]
        rows, new = np.flatnonzero(there), np.flatnonzero(~there)
        found = list(zip(rows.tolist(), self._shards[places[rows]].tolist(), strict=True))
        new = new[np.argsort(hashes[new], kind="stable")]
        self._hashes = np.insert(self._hashes, places[new], hashes[new])
        self._shards = np.insert(self._shards, places[new], shard)
        return found
