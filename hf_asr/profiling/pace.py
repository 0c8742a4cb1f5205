"""How fast the machine is meanwhile: a fixed product beside every sample, which no model has a part in.

Where two runs of a grid differ, it tells whether the machine did.
"""

from __future__ import annotations

import torch

from hf_asr.profiling.runners import Stopwatch
from hf_asr.utterance import Seconds

# Products of square matrices of this side: 0.07 s on two cores, some milliseconds on a card.
SIDE = {"cpu": 768, "cuda": 4096}
PRODUCTS = 12


class Pace:
    """Times the product on a device.

    Args:
        device: Where samples are taken.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.factor = torch.rand(SIDE[device.type], SIDE[device.type], device=device)
        self()  # the first one starts threads and loads kernels

    def __call__(self) -> Seconds:
        """Return how long the products take now."""
        watch = Stopwatch(self.device)
        watch.start()
        for _ in range(PRODUCTS):
            torch.matmul(self.factor, self.factor)
        watch.lap("pace")
        return watch.total
