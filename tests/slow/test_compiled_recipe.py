"""``training.torch_compile`` through a recipe: inductor's step gives the losses and the texts of the step as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.outcomes import Attack
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

pytestmark = pytest.mark.slow


def logged(run: Path) -> list[dict[str, Any]]:
    """Return what the steps of a run logged."""
    state = json.loads((run / "checkpoints" / "checkpoint-4" / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "grad_norm" in entry]


@pytest.mark.parametrize("window", ["full", "thinned"])
def test_compiled_and_plain_train_alike(tmp_path: Path, window: str) -> None:
    model, manifest = make_tiny_whisper(tmp_path / "model"), make_tiny_corpus(tmp_path / "corpus")
    yaml = tiny_yaml(tmp_path, model, manifest, max_steps=4, eval_strategy="no", report_to="none")
    found = {}
    for name in ("plain", "compiled"):
        torch._dynamo.reset()
        words = [f"experiment.name={name}", f"training.torch_compile={'true' if name == 'compiled' else 'false'}"]
        Attack().finetune(yaml, *words, f"model.window={window}", "training.chunked_loss=false").assert_done()
        run = tmp_path / "runs" / name
        found[name] = (logged(run), (run / "test" / "test_predictions.csv").read_text())
    (plain, texts), (compiled, compiled_texts) = found.values()
    assert len(plain) == 4 and texts == compiled_texts
    for before, after in zip(plain, compiled, strict=True):
        assert after["loss"] == pytest.approx(before["loss"], rel=1e-4)
        assert after["grad_norm"] == pytest.approx(before["grad_norm"], rel=1e-3)
