"""``training.torch_compile`` with label buckets: as many graphs as buckets, and the losses of the step as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_training import END, build_rows, logged, make_trainer
from torch._dynamo.utils import counters
from torch.testing import assert_close

from hf_asr.features.collate import LABEL_BUCKET
from hf_asr.training.trainer import SpeechTrainer

STEPS = 12
# Two clips a step, 3 labels in the first, 14 in the last: 8 and 16 padded.
BUCKETS = 2


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """Forget what other tests had compiled, and what this one had."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def rows_of_all_lengths() -> list[dict[str, Any]]:
    """Return rows of which each two have one label more than the two before."""
    return [row | {"labels": [*[7] * (2 + index // 2), END]} for index, row in enumerate(build_rows(2 * STEPS))]


def trained(folder: Path, multiple: int, **changes: Any) -> SpeechTrainer:
    """Train over lengths in the order they are in."""
    trainer = make_trainer(
        folder, batch=2, accumulation=1, rows=rows_of_all_lengths(), max_steps=STEPS, chunked_loss=False, **changes
    )
    trainer.data_collator = replace(
        trainer.data_collator, label_multiple=multiple, most_labels=32
    )  # what the decoder has
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "dynamic",
    [pytest.param("false", id="static shapes"), pytest.param("", id="automatic shapes", marks=pytest.mark.slow)],
)
def test_as_many_graphs_as_buckets(tmp_path: Path, dynamic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if dynamic:
        monkeypatch.setenv("ACCELERATE_DYNAMO_USE_DYNAMIC", dynamic)
    plain = trained(tmp_path / "plain", 1)
    compiled = trained(tmp_path / "compiled", LABEL_BUCKET, torch_compile=True, torch_compile_backend="eager")
    graphs = counters["stats"]["unique_graphs"]
    assert (graphs == BUCKETS) if dynamic else (1 <= graphs <= BUCKETS)
    assert not counters["graph_break"]
    assert_close(torch.tensor(logged(compiled)), torch.tensor(logged(plain)), rtol=1e-5, atol=0)
