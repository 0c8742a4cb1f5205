"""A run with a thinned window and batches by padded seconds: same files, same counts, every clip once an epoch."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_corpus import make_tiny_corpus, tiny_yaml
from helpers.tiny_whisper import make_tiny_whisper
from transformers import WhisperForConditionalGeneration


@pytest.fixture(scope="module")
def recipe(project_root: Path) -> Any:
    spec = importlib.util.spec_from_file_location("finetune_seq2seq", project_root / "recipes/finetune_seq2seq.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.parametrize(("window", "decoded", "other"), [("thinned", "thinned", "full"), ("clip", "full", "clip")])
def test_a_run_by_padded_seconds_in_a_smaller_window(
    recipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], window: str, decoded: str, other: str
) -> None:
    model = make_tiny_whisper(tmp_path / "model", d_model=32)
    corpus = make_tiny_corpus(tmp_path / "corpus")
    yaml = tiny_yaml(tmp_path, model, corpus, log_sample_ids=True)
    recipe(["--config", str(yaml), "data.batch_seconds=8", f"model.window={window}", f"evaluation.window={decoded}"])
    run = tmp_path / "runs" / "tiny"
    lines = [json.loads(line) for line in (run / "sample_ids.jsonl").read_text().splitlines()]
    ids = [id for line in lines for id in line["ids"]]
    clips = {id for id in ids}
    assert len(ids) % len(clips) == 0 and {ids.count(id) for id in clips} == {len(ids) // len(clips)}
    results = json.loads((run / "test" / "test_results.json").read_text())
    assert results["window"] == decoded
    assert {"window_stride", "window_run"} & results.keys() == (
        {"window_stride", "window_run"} if decoded == "thinned" else set()
    )
    # Both kinds of WER, one beside the other.
    beside = json.loads((run / f"test_{other}" / "test_results.json").read_text())
    assert beside["window"] == other and beside["num_words"] == results["num_words"]
    told = f"WER {100 * beside['wer']:.2f} %"
    assert f"{other} window" in (shown := " ".join(capsys.readouterr().out.split())) and told in shown
    assert f"decoded by the {decoded} window; by the {other} window: {told}" in (run / "README.md").read_text()
    assert {path.name for path in run.glob("test*")} == {"test", f"test_{other}"}
    assert type(WhisperForConditionalGeneration.from_pretrained(run / "best_checkpoint")).__name__ == (
        "WhisperForConditionalGeneration"
    )
    assert json.loads((run / "best_checkpoint" / "config.json").read_text())["architectures"] == [
        "WhisperForConditionalGeneration"
    ]


def test_a_mix_without_a_smaller_window_is_told(recipe: Any, tmp_path: Path) -> None:
    model, corpus = make_tiny_whisper(tmp_path / "model", d_model=32), make_tiny_corpus(tmp_path / "corpus")
    yaml = tiny_yaml(tmp_path, model, corpus)
    recipe(["--config", str(yaml), "model.window_mix=0.2", "evaluation.baseline=false", "training.max_steps=1"])
    log = (tmp_path / "runs" / "tiny" / "training.log").read_text()
    assert log.count("model.window_mix: 0.2 is of no effect, since model.window: full") == 1
