"""What a longer corpus costs before and while it trains: start-up, memory and clips a second, from 10 h to 10,000 h.

    python benchmarks/corpus_size.py [--hours 10 100 1000 10000] [--clips 300] [--output FILE]

For each length a manifest (JSON lines, clips of 5 s: 720 rows an hour) is written into a temporary folder; all its
rows name segments of one minute of noise, so that no disk is filled with audio. It is streamed in a process of its own,
with a cache folder of its own, which notes how long the first clip took to come (every row is read and checked), its
resident memory then, how long the same takes when it starts again, how long the order of the whole epoch takes (what
resuming at its end costs), and how many clips a second are then read and decoded one after the other by one process.
Nothing is fetched over a network.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SECONDS, BUFFER, FILE_SECONDS = 5, 5000, 60


def write_manifest(folder: Path, hours: float) -> int:
    """Write a manifest of so many hours and the file that it names; return the rows."""
    import numpy as np

    from hf_asr.data.audio import SAMPLE_RATE, encode

    noise = 0.1 * np.random.default_rng(0).standard_normal(FILE_SECONDS * SAMPLE_RATE).astype(np.float32)
    (folder / "noise.flac").write_bytes(encode(noise, SAMPLE_RATE, "flac"))
    rows = round(hours * 3600 / SECONDS)
    with (folder / "train.jsonl").open("w") as file:
        for row in range(rows):
            place = f'"audio_filepath": "noise.flac", "offset": {row % (FILE_SECONDS - SECONDS)}.0'
            text = f'"duration": {SECONDS}.0, "text": "the text of clip {row}", "speaker": "s{row % 997}"'
            file.write(f'{{"id": "clip{row:09d}", {place}, {text}}}\n')
    return rows


def read(folder: Path, clips: int) -> dict[str, Any]:
    """List a manifest as a recipe does, go through its order, read some clips; return what it took."""
    import psutil

    from hf_asr.config.arguments import DataArguments
    from hf_asr.data.audio import load
    from hf_asr.data.streaming import stream_rows
    from hf_asr.utterance import AudioRef, Drops

    process = psutil.Process()
    found: dict[str, Any] = {"libraries_mb": process.memory_info().rss / 2**20}
    data = DataArguments(corpus="manifest", path=str(folder), streaming=True, shuffle_buffer=BUFFER)
    begun = time.monotonic()
    stream = stream_rows(data, "train", 0, Drops())
    next(iter(stream))
    found |= {"start_seconds": time.monotonic() - begun, "start_mb": process.memory_info().rss / 2**20}
    begun = time.monotonic()
    rows = sum(1 for _ in stream.places(0))
    found |= {"rows": rows, "order_seconds": time.monotonic() - begun}
    begun, read_clips = time.monotonic(), 0
    for row in stream:
        load(AudioRef(**row["audio"]))
        read_clips += 1
        if read_clips == clips:
            break
    seconds = time.monotonic() - begun
    return found | {"clips_a_second": read_clips / seconds, "end_mb": process.memory_info().rss / 2**20}


def measure(hours: float, clips: int) -> dict[str, Any]:
    """Write a manifest and read it twice, each time in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "corpus"
        folder.mkdir()
        write_manifest(folder, hours)
        environment = os.environ | {"HF_ASR_CACHE": str(Path(name) / "cache")}
        command = [sys.executable, __file__, "--read", str(folder), "--clips", str(clips)]
        found = []
        for _ in range(2):
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        cached = sum(file.stat().st_size for file in (Path(name) / "cache").rglob("*") if file.is_file())
        return {
            **found[0],
            "again_seconds": found[1]["start_seconds"],
            "again_mb": found[1]["start_mb"],
            "manifest_mb": (folder / "train.jsonl").stat().st_size / 1e6,
            "cache_mb": cached / 1e6,
        }


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--clips", type=int, default=300, help="clips read and decoded for the speed (300)")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read, options.clips)))
        return 0
    results = {}
    print("| hours | rows | start | again | memory then | order of an epoch | clips a second | list on disk |")
    print("|---|---|---|---|---|---|---|---|")
    for hours in options.hours:
        found = results[f"{hours:g}"] = measure(hours, options.clips)
        print(
            f"| {hours:,g} | {found['rows']:,} | {found['start_seconds']:.1f} s | {found['again_seconds']:.1f} s "
            f"| {found['start_mb']:.0f} MB ({found['libraries_mb']:.0f} before) | {found['order_seconds']:.1f} s "
            f"| {found['clips_a_second']:.0f} | {found['cache_mb']:.0f} MB |",
            flush=True,
        )
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
