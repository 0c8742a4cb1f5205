"""Run folders as the recipes leave them, from a few texts: scored by the real code, nothing trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from hf_asr.evaluation.classes import write_scores
from hf_asr.evaluation.report import write_results
from hf_asr.utterance import Drops, Hypothesis

CONDITIONS = {"window": "full", "dtype": "float32", "batch_size": 8, "generation": {"num_beams": 1}}
REFERENCES = ("the cat sat on the mat", "a dog barked", "nobody came", "all is well", "", "one two three four")
BEFORE = ("the bat sat on a mat", "a dog dog barked", "", "all is well", "noise", "one two three")
AFTER = ("the cat sat on the mat", "a dog parked", "nobody came home", "all is well", "", "one two four")
EPOCHS = [
    {
        "epoch": epoch,
        "step": 10 * epoch,
        "loss": 2.0 / epoch,
        "grad_norm": 1.0 / epoch,
        "learning_rate": 1e-3 / epoch,
        "eval_loss": 2.5 / epoch,
        "eval_wer": 0.5 / epoch,
        "eval_cer": 0.25 / epoch,
        "eval_substitutions": 9 - epoch,
        "eval_deletions": 3,
        "eval_insertions": 2,
        "eval_hits": 50 + epoch,
    }
    for epoch in (1, 2, 3)
]


def write_scored(
    folder: Path,
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    ids: Sequence[str] = (),
    speakers: Sequence[str] = (),
    normalizer: str = "basic",
    skipped: Drops | None = None,
    save_predictions: bool = True,
) -> Path:
    """Score texts into ``folder`` and return it."""
    names = list(ids) or [f"clip{index}" for index in range(len(references))]
    rows = {
        "id": names,
        "text": list(references),
        "duration": [1.0 + index for index in range(len(references))],
        "speaker": list(speakers) or [f"speaker{index % 2}" for index in range(len(references))],
    }
    write_results(
        folder,
        rows=rows,
        hypotheses=[Hypothesis(id, text) for id, text in zip(names, hypotheses, strict=True)],
        skipped=skipped or Drops(),
        conditions=CONDITIONS,
        wall_seconds=2.0,
        normalizer=normalizer,
        save_predictions=save_predictions,
    )
    return folder


def make_scored_run(
    folder: Path,
    *,
    name: str = "tiny",
    references: Sequence[str] = REFERENCES,
    before: Sequence[str] = BEFORE,
    after: Sequence[str] = AFTER,
    data: dict[str, object] | None = None,
    **more: Sequence[str],
) -> Path:
    """Write a run folder with baseline, test, config and epochs, and return it."""
    write_scored(folder / "baseline", references, before, **more)  # type: ignore[arg-type]
    write_scored(folder / "test", references, after, **more)  # type: ignore[arg-type]
    config = {
        "experiment": {"name": name, "output_dir": str(folder.parent), "seed": 42},
        "model": {"name_or_path": str(folder / "secret" / "whisper-base")},
        "data": {"corpus": "manifest", "language": "en", **(data or {})},
        "training": {"learning_rate": 1e-3},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics_on_all_epochs.json").write_text(json.dumps(EPOCHS))
    (folder / "environment.json").write_text(json.dumps({"device": "cpu", "packages": {"torch": "2.14"}}))
    return folder


def make_classifier_run(folder: Path, scoring: str = "classes") -> Path:
    """Write the run folder of a classifier, or of a regressor, and return it."""
    truth, said = {"classes": ("aabbb", "ababb"), "numbers": ("12345", "22344")}[scoring]
    rows = {
        "id": [f"clip{index}" for index in range(len(truth))],
        "label": list(truth),
        "duration": [1.0] * len(truth),
        "speaker": [""] * len(truth),
    }
    write_scores(
        folder / "test",
        scoring=scoring,
        rows=rows,
        hypotheses=[Hypothesis(id, label) for id, label in zip(rows["id"], said, strict=True)],
        skipped=Drops(),
        conditions=CONDITIONS,
        wall_seconds=1.0,
        guess="a" if scoring == "classes" else "3",
    )
    return folder
