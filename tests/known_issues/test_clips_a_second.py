"""Windows of several clips were counted as clips, and batches by seconds as if they had the default batch size."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.outcomes import recipe_main, sample_ids
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper

ONCE = ["evaluation.baseline=false", "training.eval_strategy=no", "training.max_steps=2"]


@pytest.mark.parametrize(
    "words",
    [
        ["data.pack=true", "data.pack_speakers=any", "training.per_device_train_batch_size=1"],
        ["data.batch_seconds=3", "model.window=clip"],
        ["data.batch_seconds=3", "model.window=clip", "data.streaming=true"],
    ],
)
def test_the_clips_that_were_trained_on_are_counted(tmp_path: Path, words: list[str]) -> None:
    model, corpus = make_tiny_whisper(tmp_path / "model"), make_tiny_corpus(tmp_path / "corpus")
    yaml = tiny_yaml(tmp_path, model, corpus, log_sample_ids=True)
    recipe_main("finetune_seq2seq")(["--config", str(yaml), *ONCE, *words])
    run = tmp_path / "runs" / "tiny"
    trained = len(sample_ids(run))
    assert json.loads((run / "resources.json").read_text())["clips"] == trained
    found = re.search(r"train_runtime ([\d.]+), train_samples_per_second ([\d.]+)", (run / "training.log").read_text())
    assert found is not None and float(found[2]) == pytest.approx(trained / float(found[1]), rel=1e-2)
