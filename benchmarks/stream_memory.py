"""Does memory stay flat while a stream gets longer? Resident memory while reading 1 h and 50 h of shards.

    python benchmarks/stream_memory.py [--hours 1 50] [--decode-every 10] [--picture FILE] [--output FILE]

Shards of 200 clips of 5 s (Opus; a few noises, encoded once and repeated under other names) are written into a
temporary folder, streamed through a shuffle buffer of 1,000 and thrown away; every tenth clip is decoded. Each length
is read in a process of its own, which notes its resident memory every 200 clips. Beside it: how long it takes to go
through the order of a million clips, which is what resuming at the end of such an epoch costs.

Exit 1 when the longest stream ends with more than 1.1 times the memory of the shortest.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

CLIPS_A_SHARD, SECONDS, NOISES, BUFFER, MOST = 200, 5, 8, 1000, 1.1
# Clips before the first note: every library is loaded.
SETTLED = 200


def write_shards(folder: Path, hours: float) -> int:
    """Write shards of so many hours; return how many clips they hold."""
    import numpy as np

    from hf_asr.data.audio import SAMPLE_RATE, encode

    random = np.random.default_rng(0)
    noises = [0.1 * random.standard_normal(SECONDS * SAMPLE_RATE).astype(np.float32) for _ in range(NOISES)]
    encoded = [encode(noise, SAMPLE_RATE, "opus", compression=1.0) for noise in noises]
    clips = round(hours * 3600 / SECONDS)
    for shard in range(0, clips, CLIPS_A_SHARD):
        with tarfile.open(folder / f"train-{shard // CLIPS_A_SHARD:06d}.tar", "w") as tar:
            for index in range(shard, min(clips, shard + CLIPS_A_SHARD)):
                fields = json.dumps({"text": f"clip {index}", "duration": SECONDS}).encode()
                for name, data in ((f"{index:08d}.opus", encoded[index % NOISES]), (f"{index:08d}.json", fields)):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return clips


def read(folder: Path, decode_every: int) -> dict[str, Any]:
    """Go through a stream's epoch; return memory by clips read, and the seconds it took."""
    import psutil

    from hf_asr.config.arguments import DataArguments
    from hf_asr.data.audio import load
    from hf_asr.data.streaming import stream_rows
    from hf_asr.utterance import AudioRef, Drops

    data = DataArguments(corpus="webdataset", path=str(folder), streaming=True, shuffle_buffer=BUFFER)
    stream = stream_rows(data, "train", 0, Drops())
    process, notes, begun = psutil.Process(), [], time.monotonic()
    for number, row in enumerate(stream):
        if number % decode_every == 0:
            load(AudioRef(**row["audio"]))
        if number >= SETTLED and number % CLIPS_A_SHARD == 0:
            notes.append((number, process.memory_info().rss / 2**20))
    return {"notes": notes, "seconds": time.monotonic() - begun}


def order_seconds(clips: int = 1_000_000) -> float:
    """Return how long it takes to go through the order of so many listed clips."""
    from datasets import Dataset

    from hf_asr.data.stream import ListedSource, Stream
    from hf_asr.data.stream_order import Shuffle

    stream = Stream([ListedSource(Dataset.from_dict({"duration": [1.0] * clips}), False)], Shuffle(0, BUFFER))
    begun = time.monotonic()
    assert sum(1 for _ in stream.places(0)) == clips
    return time.monotonic() - begun


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw memory against hours read, one line a stream."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    most = max(mb for found in results.values() for _, mb in found["notes"])
    for hours, found in reversed(results.items()):
        read_hours, memory = [n * SECONDS / 3600 for n, _ in found["notes"]], [mb for _, mb in found["notes"]]
        axes.plot(read_hours, memory, marker=".", markersize=4, label=f"{hours} h")
    axes.set(xlabel="hours read", ylabel="resident memory, MB", ylim=(0, 1.2 * most), title="Streaming shards")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure; return 1 when memory grows with the stream."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[1, 50])
    parser.add_argument("--decode-every", type=int, default=10)
    parser.add_argument("--picture", type=Path, help="draw a picture into this file")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read, options.decode_every)))
        return 0
    results = {f"{hours:g}": measure(hours, options.decode_every) for hours in sorted(options.hours)}
    seconds = order_seconds()
    for hours, found in results.items():
        memory = [mb for _, mb in found["notes"]]
        print(f"{hours} h: {memory[0]:.0f} MB at first, at most {max(memory):.0f} MB, {found['seconds']:.1f} s")
    print(f"the order of a million clips: {seconds:.2f} s")
    if options.picture:
        draw(results, options.picture)
    if options.output:
        options.output.write_text(json.dumps({"streams": results, "order_seconds": seconds}) + "\n")
    most = [max(mb for _, mb in found["notes"]) for found in results.values()]
    return int(most[-1] > MOST * most[0])


def measure(hours: float, decode_every: int) -> dict[str, Any]:
    """Write shards and read them in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shards").mkdir()
        write_shards(Path(folder) / "shards", hours)
        command = [
            sys.executable,
            __file__,
            "--read",
            str(Path(folder) / "shards"),
            "--decode-every",
            str(decode_every),
        ]
        environment = os.environ | {"HF_ASR_CACHE": str(Path(folder) / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


if __name__ == "__main__":
    sys.exit(main())
