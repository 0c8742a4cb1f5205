"""How long clips are once they are padded: what a batch costs, and what bounds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hf_asr.features.collate import MixedPadder, PlannedPadder, WindowPadder
from hf_asr.features.positions import FRAMES_PER_POSITION
from hf_asr.utterance import Seconds

# M of the legend: log-mel frames a second.
FRAMES_PER_SECOND = 100


def padded_seconds(collator: Any, seconds: Sequence[Seconds]) -> list[Seconds]:
    """Return what each clip's inputs take, in seconds of the encoder's window.

    Args:
        collator: The family's; what its padder does decides.
        seconds: Length of each clip.
    """
    match collator.padder:
        case WindowPadder(window_frames=frames):
            return [frames / FRAMES_PER_SECOND] * len(seconds)
        case MixedPadder(whole=WindowPadder(window_frames=frames)):  # any batch may get the whole window
            return [frames / FRAMES_PER_SECOND] * len(seconds)
        case PlannedPadder(window=window):
            # What is declared to be longer than the window is refused when it is decoded.
            known = (min(math.ceil(length * FRAMES_PER_SECOND), window.frames) for length in seconds)
            kept = (len(window.of_clip(each).positions) for each in known)
            return [positions * FRAMES_PER_POSITION / FRAMES_PER_SECOND for positions in kept]
    return list(seconds)
