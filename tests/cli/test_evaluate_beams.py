"""With beams as without: the trainer's validation, the baseline and ``hf-asr evaluate`` agree to the last digit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.outcomes import recipe_main
from helpers.scripted_whisper import make_talker
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml

from hf_asr.cli import main

BEAMS = 5
COUNTS = ("wer", "cer", "mer", "wil", "substitutions", "deletions", "insertions", "hits")
SAME = (*COUNTS, "wer_interval", "num_utterances", "generation", "window", "dtype", "batch_size", "normalizer")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that decodes with beams, in validation as before and after the training."""
    folder = tmp_path_factory.mktemp("beams")
    model, corpus = make_talker(folder / "model"), make_tiny_corpus(folder / "corpus", validation=5, test=6)
    yaml = tiny_yaml(folder, model, corpus, num_train_epochs=1, learning_rate=1e-4, report_to="none")
    recipe_main("finetune_seq2seq")(["--config", str(yaml), f"evaluation.generation.num_beams={BEAMS}"])
    return folder / "runs" / "tiny"


def evaluated(run: Path, output: Path, model: Path, *words: str) -> tuple[dict[str, Any], str]:
    """Run the verb with the run's own configuration; return its results and its predictions."""
    options = ["--model", str(model), "--config", str(run / "config.yaml"), "--save-predictions", *words]
    assert main(["evaluate", *options, "--output-dir", str(output)]) == 0
    return json.loads((output / "test_results.json").read_text()), (output / "test_predictions.csv").read_text()


@pytest.mark.parametrize(("part", "model"), [("test", "best_checkpoint"), ("baseline", "../../model")])
def test_the_test_split_before_and_after(part: str, model: str, run: Path, tmp_path: Path) -> None:
    again, predictions = evaluated(run, tmp_path, run / model)
    first = json.loads((run / part / "test_results.json").read_text())
    assert {name: again[name] for name in SAME} == {name: first[name] for name in SAME}
    assert again["generation"]["num_beams"] == BEAMS
    assert predictions == (run / part / "test_predictions.csv").read_text()


def test_the_trainers_validation(run: Path, tmp_path: Path) -> None:
    again, predictions = evaluated(run, tmp_path / "beams", run / "best_checkpoint", "--split", "validation")
    (epoch,) = json.loads((run / "metrics_on_all_epochs.json").read_text())
    assert {name: again[name] for name in COUNTS} == {name: epoch[f"eval_{name}"] for name in COUNTS}
    # The beams do something: what the greedy search writes is other text.
    words = ["--split", "validation", "evaluation.generation.num_beams=1"]
    _, greedy = evaluated(run, tmp_path / "greedy", run / "best_checkpoint", *words)
    assert greedy != predictions
