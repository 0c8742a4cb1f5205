"""A run that had ended inside an epoch trained one step more when it was resumed, and another result came out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.outcomes import Attack, results_of
from helpers.tiny_release import Release

ENDS = {
    "the last step of max_steps": ["training.max_steps=3"],
    "without validation": ["training.max_steps=3", "training.eval_strategy=no"],
    "a stream": ["training.max_steps=3", "data.streaming=true"],
    # With a rate of 0 no validation is better than the first: the third is the last of 20.
    "early stopping": [
        "training.max_steps=20",
        "training.early_stopping_patience=2",
        "training.learning_rate=0",
        "training.eval_strategy=steps",
        "training.eval_steps=1",
    ],
}


def steps_of(run: Path) -> tuple[list[str], str]:
    """Return a run's checkpoints, and what it was trained on."""
    return sorted(path.name for path in (run / "checkpoints").iterdir()), (run / "sample_ids.jsonl").read_text()


@pytest.mark.parametrize("end", ENDS)
def test_nothing_more_is_trained(attack: Attack, release: Release, end: str) -> None:
    words = [release.yaml, "evaluation.baseline=false", *ENDS[end]]
    run = release.yaml.parent / "runs" / "attacked"
    first = attack.finetune(*words)
    first.assert_done()
    before, wer = steps_of(run), results_of(run / "test")["wer"]
    assert before[0][-1] == "checkpoint-3"
    again = attack.finetune(*words, "training.resume_from_checkpoint=true")
    again.assert_done()
    assert "nothing is left to train" in again.err
    assert steps_of(run) == before
    assert results_of(run / "test")["wer"] == wer
    means = [
        line.split("train_loss ")[1].split(",")[0]
        for line in (first.err + again.err).split("\n")
        if "train_loss" in line
    ]
    assert len(means) == 2 and means[0] == means[1]


def test_more_steps_are_trained_when_they_are_asked_for(attack: Attack, release: Release) -> None:
    attack.finetune(release.yaml, "evaluation.baseline=false").assert_done()
    more = ["training.max_steps=4", "training.resume_from_checkpoint=true", "evaluation.baseline=false"]
    attack.finetune(release.yaml, *more).assert_done()
    lines = (release.yaml.parent / "runs" / "attacked" / "sample_ids.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
