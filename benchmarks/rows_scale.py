"""The row of cost against size: listing, preparing features, starting and sampling 1,000 to 100,000 clips.

    python benchmarks/run.py --only scale --output docs/benchmarks.json
    python benchmarks/rows_scale.py --picture docs/benchmarks.json docs/pictures/scale.png

Clips are segments of 0.5 to 1.5 s of one minute of noise: the features of each are computed and written as of any
corpus, and no disk is filled with audio. Each size runs in a process of its own, with a cache of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SECONDS = (0.5, 1.5)
FILE_SECONDS = 60
BATCH_SECONDS = 240
# Of two looks at the memory.
SECONDS_BETWEEN = 0.05
KEYS = (
    f"data.batch_seconds={BATCH_SECONDS}",
    "training.per_device_train_batch_size=null",
    "model.window=thinned",
    "data.columns.duration=duration",
    "features.num_proc=1",
)
PHASES = {
    "preparation": "preparation: features computed and written",
    "listing": "listing: rows read and checked",
    "sampling": "sampling: one epoch's batches",
    "start_up": "start-up: features found, model loaded, first batch",
}
MEMORY = {"resident_mb": "resident, mapped pages of the cache included", "own_mb": "the process's own"}


def scale(setting: Any) -> list[dict[str, Any]]:
    """Measure every size; the row's figure is the preparation of a clip at the largest."""
    from setting import Measured, with_folder

    setting = with_folder(setting, "scale")
    found = {size: _at_size(setting, size) for size in setting.scale}
    least, most = min(found), max(found)
    growth = {name: found[most][name] / found[least][name] for name in (*PHASES, "own_mb", "resident_mb")}
    measured = Measured({"ours": [found[most]["preparation"] / most]}, "seconds a clip to prepare")
    row = measured.row("scale", setting) | {"speech": f"synthetic: segments of noise, {SECONDS[0]} to {SECONDS[1]} s"}
    return [row | {"sizes": {str(size): values for size, values in found.items()}, "growth": growth}]


def _at_size(setting: Any, clips: int) -> dict[str, float]:
    folder = setting.folder / str(clips)
    folder.mkdir(exist_ok=True)
    manifest = write_manifest(folder, clips)
    command = [sys.executable, str(Path(__file__)), str(folder), str(manifest), str(setting.checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"scale at {clips} clips: {done.stderr[-2000:]}")
    shutil.rmtree(folder)
    found = dict(json.loads(done.stdout.splitlines()[-1]))
    told = ", ".join(f"{name} {found[name]:.1f} s" for name in PHASES)
    print(f"  {clips} clips: {told}, own memory {found['own_mb']:.0f} MB", file=sys.stderr, flush=True)
    return found


def write_manifest(folder: Path, clips: int) -> Path:
    """Write the noise and a manifest of its segments; return the manifest."""
    import numpy as np

    from hf_asr.data.audio import SAMPLE_RATE, encode

    generator = np.random.default_rng(0)
    noise = 0.1 * generator.standard_normal(FILE_SECONDS * SAMPLE_RATE).astype(np.float32)
    (folder / "noise.wav").write_bytes(encode(noise, SAMPLE_RATE, "wav"))
    lengths = generator.uniform(*SECONDS, clips).round(2)
    with (folder / "train.jsonl").open("w") as file:
        for clip, length in enumerate(lengths):
            row = {"id": f"clip{clip:06d}", "audio_filepath": "noise.wav", "offset": clip % (FILE_SECONDS - 2) * 1.0}
            file.write(json.dumps(row | {"duration": length, "text": "the words", "speaker": f"s{clip % 97}"}) + "\n")
    return folder / "train.jsonl"


def _in_own_process(folder: Path, manifest: Path, checkpoint: Path) -> None:
    """Print what one size takes: seconds, bytes on disk, and megabytes at their highest."""
    import ours
    from setting import Setting, clock
    from speech import Speech

    from hf_asr.data.corpora import build_splits
    from hf_asr.features.prepare import prepare_splits
    from hf_asr.profiling.resident import peak_rss_bytes

    memory = OwnMemory()
    setting = Setting(folder, Speech(manifest, 0, 1.0, 6, ""), checkpoint)
    arguments = ours.configuration(setting, *KEYS)
    encoder = ours.load_encoder(arguments)  # the libraries' own start, the same at every size, is left out
    start = clock()
    splits = build_splits(arguments.data, seed=arguments.experiment.seed, names=("train",))
    listed = clock()
    prepare_splits(splits, encoder, arguments)
    prepared = clock()
    made = ours.assemble(setting, *KEYS)
    next(iter(made.trainer.get_train_dataloader()))
    started = clock()
    batches = sum(1 for _ in made.trainer.batch_sampler())
    sampled = clock()
    times = {"listing": listed - start, "preparation": prepared - listed, "start_up": started - prepared}
    cache = Path(arguments.features.cache_dir)
    on_disk = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    megabytes = {"own_mb": memory.highest() / 2**20, "resident_mb": peak_rss_bytes() / 2**20, "cache_mb": on_disk / 1e6}
    print(json.dumps(times | {"sampling": sampled - started, "batches": batches} | megabytes))


class OwnMemory:
    """Watches the memory that is this process's own: resident, without the pages of files that are mapped.

    Pages of a mapped cache are resident while nobody else needs the memory, and grow with the cache.
    """

    def __init__(self) -> None:
        import psutil

        self._process, self._most, self._done = psutil.Process(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(SECONDS_BETWEEN):
            found = self._process.memory_info()
            self._most = max(self._most, found.rss - found.shared)

    def highest(self) -> int:
        """Stop watching and return the most bytes seen."""
        self._done.set()
        self._thread.join()
        return self._most


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """Draw seconds and memory against clips."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    row = next(row for row in rows if row["name"] == "scale")
    sizes = {int(size): values for size, values in row["sizes"].items()}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.8), width_ratios=(3, 2))
    for phase, label in PHASES.items():
        left.plot(list(sizes), [values[phase] for values in sizes.values()], marker="o", label=label)
    least, most = min(sizes), max(sizes)
    first = sizes[least]["preparation"]
    left.plot([least, most], [first, first * most / least], color="grey", linestyle=":", label="in proportion")
    left.set(xscale="log", yscale="log", xlabel="clips", ylabel=row["unit"].partition(" a clip")[0], ylim=(0.01, 1e4))
    left.legend(fontsize=7, framealpha=0.6)
    for name, label in MEMORY.items():
        right.plot(list(sizes), [values[name] for values in sizes.values()], marker="o", label=label)
    most_mb = max(values["resident_mb"] for values in sizes.values())
    right.set(xscale="log", xlabel="clips", ylabel="highest, MB", ylim=(0, 1.4 * most_mb))
    right.legend(fontsize=7)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    if sys.argv[1] == "--picture":
        draw(json.loads(Path(sys.argv[2]).read_text("utf-8")), Path(sys.argv[3]))
    else:
        _in_own_process(*(Path(argument) for argument in sys.argv[1:4]))
