"""A manifest with a few short clips of tones: enough to run a recipe whole, made in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hf_asr.data.audio import SAMPLE_RATE, encode

WORDS = ("one", "two", "three", "four", "five", "six", "seven")


def tone(index: int, seconds: float) -> np.ndarray:
    """Return (T,) samples of a tone whose pitch is its own."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(index).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * (200 + 37 * index) * time) + 0.01 * noise).astype(np.float32)


def make_tiny_corpus(folder: Path, train: int = 12, validation: int = 4, test: int = 4) -> Path:
    """Write wavs and ``manifest.csv`` (path, text, speaker, split) into ``folder``; return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,text,speaker,split"]
    names = ["train"] * train + ["validation"] * validation + ["test"] * test
    for index, split in enumerate(names):
        samples = tone(index, 0.5 + 0.1 * (index % 9))
        (folder / f"clip{index}.wav").write_bytes(encode(samples, SAMPLE_RATE, "wav"))
        text = " ".join(WORDS[(index + k) % len(WORDS)] for k in range(1 + index % 5)) + f" {index}"
        lines.append(f"clip{index}.wav,{text},{split}-speaker{index % 3},{split}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def tiny_yaml(folder: Path, model: Path, manifest: Path, **training: object) -> Path:
    """Write the YAML of a run that takes a second or two; return its path.

    Args:
        folder: Where the YAML, the runs and the caches go.
        model: A checkpoint, such as make_tiny_whisper's.
        manifest: make_tiny_corpus's.
        training: Keys of the training section, over small defaults.
    """
    sections = {
        "experiment": {"name": "tiny", "output_dir": str(folder / "runs")},
        "model": {"name_or_path": str(model)},
        "data": {
            "corpus": "manifest",
            "path": str(manifest),
            "language": "en",
            "columns": {"split": "split"},
            "max_seconds": 4,
        },
        "features": {"cache_dir": str(folder / "cache"), "num_proc": 1},
        "training": {
            "per_device_train_batch_size": 4,
            "num_train_epochs": 2,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "use_cpu": True,
            **training,
        },
        "evaluation": {"batch_size": 4, "generation": {"max_new_tokens": 8}},
    }
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(sections, indent=1))  # JSON is YAML
    return path
