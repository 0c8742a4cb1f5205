"""Which clips are decoded together: neighbours by length, a number of them or so many padded seconds.

Clips of like length have texts of like length, so a batch has little padding and its rows end at nearly the same step.
The batches are a function of the split and the conditions alone: neither of the number of processes nor of chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_asr.errors import UserError
from hf_asr.utterance import Seconds


def cut_batches(
    durations: Sequence[Seconds], padded: Sequence[Seconds], batch_size: int, batch_seconds: Seconds | None
) -> list[list[int]]:
    """Sort clips by length and cut them into batches; every clip is in one.

    Args:
        durations: Length of each clip.
        padded: What each clip takes as the longest of a batch, in seconds of the model's inputs.
        batch_size: Clips of a batch.
        batch_seconds: Most padded seconds of a batch, in place of ``batch_size``.

    Returns:
        Places of each batch's clips, the longest first: what does not fit into memory fails at once.

    Raises:
        UserError: A clip is longer than a batch may be.
    """
    order = np.lexsort((np.arange(len(durations)), -np.asarray(durations), -np.asarray(padded))).tolist()
    if batch_seconds is None:
        return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    if order and padded[order[0]] > batch_seconds:
        raise UserError(
            f"evaluation.batch_seconds: expected at least the longest clip with its padding, {padded[order[0]]:.2f} s, "
            f"found {batch_seconds:g}. Raise it, or set evaluation.batch_size in its place."
        )
    batches: list[list[int]] = []
    for place in order:
        # The first clip of a batch is its longest.
        if not batches or (len(batches[-1]) + 1) * padded[batches[-1][0]] > batch_seconds:
            batches.append([])
        batches[-1].append(place)
    return batches
