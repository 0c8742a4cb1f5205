"""Write a test of long clips: neighbours of one speaker joined, as WAV files and a manifest.

Gate b asks whether packed training keeps the WER of 30-second windows too, and most corpora have few of them.

    python benchmarks/join_clips.py --config my.yaml [key=value ...] --output joined [--seconds 28] [--split test]
    hf-asr evaluate --model RUN/best_checkpoint --config my.yaml joined/joined.yaml --output-dir RUN/test_long ...
    python benchmarks/gates.py b --test test_long ...

Exit 0 written, 2 the user asked for something impossible.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import soundfile
import yaml
from gate_clips import GateClip, configuration, joined, read_clips

from hf_asr.data.audio import SAMPLE_RATE
from hf_asr.errors import UserError

COLUMNS = ("path", "text", "speaker", "seconds", "id")


def write(clips: Sequence[GateClip], folder: Path) -> Path:
    """Write clips and their manifest; return a YAML that makes them the test of a configuration it is laid over.

    Args:
        clips: What is written, one WAV at 16 kHz each.
        folder: Where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.tsv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, dialect="excel-tab")
        table.writerow(COLUMNS)
        for number, clip in enumerate(clips):
            samples = clip.samples()
            name = f"{number:05d}.wav"
            soundfile.write(folder / name, samples, SAMPLE_RATE, subtype="PCM_16")
            table.writerow([name, clip.text, clip.speaker, f"{len(samples) / SAMPLE_RATE:.3f}", clip.id])
    place = str(manifest.resolve())
    test = {"corpus": "manifest", "path": place, "splits": {"test": place}}
    test |= {"columns": {"audio": "path", "duration": "seconds"}}
    overlay = folder / "joined.yaml"
    overlay.write_text(yaml.safe_dump({"data": {"splits": {"test": test}}}, sort_keys=False), encoding="utf-8")
    return overlay


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--config", nargs="+", default=[], help="YAMLs of a corpus; by default the shared one's clips")
    top.add_argument("overrides", nargs="*", metavar="key=value", help="over the YAMLs")
    top.add_argument("--split", choices=("train", "validation", "test"), default="test")
    top.add_argument("--seconds", type=float, default=28.0, help="longest clip written")
    top.add_argument("--output", type=Path, required=True, help="folder of the clips")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Join and write; return the exit code."""
    options = parser().parse_args(argv)
    try:
        arguments = configuration(options.config, options.overrides)
        clips = joined(read_clips(arguments, options.split, None), (options.seconds,))
        overlay = write(clips, options.output)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    seconds = sum(clip.seconds for clip in clips)
    print(f"{overlay}: {len(clips)} clips of {len({clip.speaker for clip in clips})} speakers, {seconds / 60:.1f} min")
    return 0


if __name__ == "__main__":
    sys.exit(main())
