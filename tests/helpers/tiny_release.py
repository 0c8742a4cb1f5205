"""A Common Voice release of a few tones, in milliseconds, to be broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.tiny_corpus import WORDS, tone

from hf_asr.data.audio import SAMPLE_RATE, encode

HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tlocale"
SIZES = {"train": 6, "dev": 3, "test": 4}
Change = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Release:
    """A release, with the YAML of a run that takes a second.

    Attributes:
        folder: The language's folder, with TSVs and clips/.
        yaml: A configuration that trains on it.
        model: The checkpoint in it.
    """

    folder: Path
    yaml: Path
    model: Path

    def rewrite(self, change: Change, *splits: str) -> None:
        """Change the bytes of TSVs, of all by default."""
        for split in splits or SIZES:
            table = self.folder / f"{split}.tsv"
            table.write_bytes(change(table.read_bytes()))

    def add(self, split: str, name: str, text: str, data: bytes | None = None) -> None:
        """Add a row to a TSV, and its clip when there are bytes for one."""
        if data is not None:
            (self.folder / "clips" / name).write_bytes(data)
        with (self.folder / f"{split}.tsv").open("a", encoding="utf-8") as table:
            table.write(row(split, name, text))


def row(split: str, name: str, text: str) -> str:
    """Return a line of a TSV; each split has speakers of its own."""
    return f"{split}-speaker{len(text) % 2}\t{name}\t{text}\t2\t0\ten\n"


def sentence(index: int) -> str:
    """Return a text that no other clip has, spoken at an ordinary pace."""
    return f"{WORDS[index % 7]} {WORDS[(index // 7 + index) % 7]}"


def make_release(root: Path, model: Path, **training: object) -> Release:
    """Write train, dev and test with 6, 3 and 4 clips of about a second.

    Args:
        root: Folder for all of it.
        model: A checkpoint, such as make_tiny_whisper's.
        training: Keys of the training section, over small defaults.
    """
    folder = root / "cv" / "en"
    (folder / "clips").mkdir(parents=True)
    index = 0
    for split, size in SIZES.items():
        lines = [HEADER + "\n"]
        for _ in range(size):
            clip = f"c{index}.wav"
            samples = tone(index, 0.8 + 0.05 * (index % 5))
            (folder / "clips" / clip).write_bytes(encode(samples, SAMPLE_RATE, "wav"))
            lines.append(row(split, clip, sentence(index)))
            index += 1
        (folder / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")
    return Release(folder, write_yaml(root, model, folder, **training), model)


def write_yaml(root: Path, model: Path, folder: Path, **training: object) -> Path:
    """Write the run's YAML and return its path."""
    sections = {
        "experiment": {"name": "attacked", "output_dir": str(root / "runs")},
        "model": {"name_or_path": str(model)},
        "data": {"corpus": "common_voice", "path": str(folder), "language": "en"},
        "features": {"cache_dir": str(root / "features"), "num_proc": 1},
        "training": {
            "per_device_train_batch_size": 4,
            "max_steps": 2,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "use_cpu": True,
            "log_sample_ids": True,
            **training,
        },
        "evaluation": {"batch_size": 8, "generation": {"max_new_tokens": 4}},
    }
    path = root / "run.yaml"
    path.write_text(json.dumps(sections, indent=1), encoding="utf-8")
    return path
