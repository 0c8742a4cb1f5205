"""The training step that `hf-asr profile --train` times: profiling is handed it, as it knows no training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from hf_asr.profiling.grid import FAULTS, GridSettings, told
from hf_asr.profiling.log import GridLog
from hf_asr.profiling.operators import split_step
from hf_asr.profiling.subject import Subject
from hf_asr.profiling.synthetic import noise
from hf_asr.training.loss import summed_loss

# Clips that the loader goes round and round over.
CLIPS = 16
# Features are computed in this process: what a run waits for at most, and the threads stay those of the grid.
WORKERS = 0


class NoiseClips(torch.utils.data.Dataset[dict[str, Any]]):
    """Clips whose features are computed when they are asked for, as the loader of a run without a cache does it.

    Args:
        subject: The model's front end.
        duration: Seconds of a clip.
        labels: Token ids of each.
    """

    def __init__(self, subject: Subject, duration: float, labels: list[int]) -> None:
        self.subject = subject
        self.labels = labels
        self.clips = [noise(duration, seed) for seed in range(CLIPS)]

    def __len__(self) -> int:
        return 1000 * CLIPS

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {**self.subject.row(str(place), self.clips[place % CLIPS]), "labels": self.labels}


class Step:
    """One optimiser step of everything: AdamW, the family's own loss.

    Args:
        subject: The model.
        device: Where.
        duration: Seconds of the clips.
        batch_size: Clips of the step.
        tokens: Labels of each.
    """

    def __init__(self, subject: Subject, device: torch.device, duration: float, batch_size: int, tokens: int) -> None:
        self.subject = subject
        self.model = subject.load().to(device).train()
        self.device = device
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        end = self.model.config.eos_token_id
        labels = [3 + place % 20 for place in range(tokens - 1)] + [end if isinstance(end, int) else 2]
        collate = subject.family.make_collator(subject.processor, self.model)
        clips = NoiseClips(subject, duration, labels)
        self.batches: Iterator[Any] = iter(DataLoader(clips, batch_size, collate_fn=collate, num_workers=WORKERS))

    def load(self) -> dict[str, torch.Tensor]:
        """Return the next batch on the device."""
        batch = next(self.batches)
        return {name: value.to(self.device) for name, value in batch.items() if isinstance(value, torch.Tensor)}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the loss a label."""
        total, _ = summed_loss(self.subject.family.loss, self.model, batch)
        return total / self.subject.family.loss.items(batch["labels"]).clamp(min=1)

    def backward(self, loss: torch.Tensor) -> None:
        """Compute the gradients."""
        loss.backward()

    def optimise(self) -> None:
        """Change the weights."""
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def time_training(subject: Subject, name: str, device: str, settings: GridSettings, log: GridLog) -> None:
    """Time a model's training step at the shortest duration and the smallest batch; once a grid."""
    duration, batch_size = min(settings.durations), min(settings.batch_sizes)
    key = f"{name}|{device}|{duration:g}s|{batch_size}"
    if log.of("train", key):
        return
    try:
        step = Step(subject, torch.device(device), duration, batch_size, settings.tokens)
        found = split_step(step, torch.device(device), repeats=min(settings.repeats, 5))
    except FAULTS as error:
        found = {"message": told(error)[1]}
    log.append("train", key, **found)
