"""The folder of a run that has ended, as recipes leave it, with everything in it that must not be published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

PRIVATE = "/home/anna/secret"
RESULTS = {
    "wer": 0.125,
    "normalizer": "basic",
    "command": ["hf-asr", "evaluate", f"--config={PRIVATE}/run.yaml"],
    "skipped": {"broken_audio": [[f"{PRIVATE}/clip.wav", "truncated"]]},
}
CONFIG = {
    "experiment": {"name": "tiny", "output_dir": f"{PRIVATE}/runs"},
    "model": {"name_or_path": "openai/whisper-tiny"},
    "data": {"corpus": "manifest", "path": f"{PRIVATE}/clips.csv"},
}
CARD = '---\nlanguage: en\n---\n\n# tiny\n\npipeline("automatic-speech-recognition", model="best_checkpoint")\n'


def make_finished_run(folder: Path) -> Path:
    """Write a finished run into ``folder`` and return it; weights are 3,000 random numbers."""
    best, test = folder / "best_checkpoint", folder / "test"
    best.mkdir(parents=True)
    test.mkdir()
    weights = {"weight": np.random.default_rng(0).standard_normal(3000).astype(np.float32)}
    save_file(weights, best / "model.safetensors")
    (best / "config.json").write_text(json.dumps({"model_type": "whisper", "_name_or_path": f"{PRIVATE}/base"}))
    (best / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"/": 0, "a": 1}}}))
    (best / "tokenizer_config.json").write_text(json.dumps({"name_or_path": f"{PRIVATE}/base", "unk_token": "a"}))
    for name in ("training_args.bin", "optimizer.pt", "environment.json", "config.yaml", "trainer_state.json"):
        (best / name).write_text(PRIVATE)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "training.log").write_text(PRIVATE)
    (folder / "README.md").write_text(CARD)
    (test / "test_results.json").write_text(json.dumps(RESULTS))
    (test / "test_predictions.csv").write_text("id,speaker\n1,anna\n")
    return folder
