"""Does the data keep up with 8 to 512 GPUs? A simulation of stream, workers, network, checkpoints; nothing is trained.

    python benchmarks/loader_simulation.py [--gpus 8 64 512] [--clips-a-second 60] [--decode-ms 24] [--workers 4] ...

What it computes, for each number of GPUs, from the inputs (all are options, and all are printed):

* bytes a second: what each GPU and the whole storage must give; the share of the storage each GPU gets.
* the loader: batches of clips whose lengths are drawn (gamma, mean --seconds), read by --workers processes a GPU ahead
  of the model by --prefetch batches each, as torch's DataLoader does; a step begins when the slowest GPU has its batch,
  and takes --clips-a-second's time. ``kept busy`` is the share of time in which the GPUs compute.
* shards: each process reads whole shards of its own. One that runs dry waits for the others: the share of an epoch lost
  is that of dealing shards of --shard-clips (which differ by --shard-spread) to the processes, and the shards it takes
  for less than 1 % are given.
* memory of one process: places in the shuffle buffer (measured here), batches read ahead, shards fetched ahead.
* checkpoints: the time of writing 12 bytes a parameter from one process, and the share of training lost to it.

``breaks first`` names what has the least left over, or is exceeded. What it leaves out: failures, other users of the
storage, network between GPUs, evaluation.
"""

from __future__ import annotations

import argparse
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

STEPS, STEPS_WARM, MOST_LOST = 400, 50, 0.01
# float32 weights and AdamW's two averages.
CHECKPOINT_BYTES = 12
# Option: default, what it is.
INPUTS: dict[str, tuple[float, str]] = {
    "clips-a-second": (60, "clips a GPU trains in a second (assumed; `hf-asr profile --train` measures it)"),
    "batch": (16, "clips of a GPU's batch"),
    "seconds": (5, "mean length of a clip"),
    "kilobytes": (15, "bytes of a clip in its shard, kB (Opus at 24 kbit/s)"),
    "decode-ms": (24, "CPU time of decoding and log-mel of a mean clip (48-kHz Opus; 9 for WAV, docs/augmentation.md)"),
    "workers": (4, "loader processes a GPU"),
    "prefetch": (4, "batches read ahead by each of them"),
    "hours": (10_000, "hours of the corpus"),
    "shard-clips": (10_000, "clips of a shard"),
    "shard-spread": (0.1, "standard deviation of a shard's clips over their mean"),
    "buffer": (5000, "places of the shuffle buffer"),
    "storage-gigabytes": (5, "what the storage gives to all readers, GB/s"),
    "link-gigabytes": (1.2, "what one machine of 8 GPUs takes from the network, GB/s (10 Gbit/s)"),
    "parameters": (244e6, "parameters of the model (whisper-small)"),
    "disk-gigabytes": (1, "what one process writes of a checkpoint, GB/s"),
    "save-minutes": (30, "minutes between two checkpoints"),
    "seed": (0, "of the draws"),
}
HEADINGS = (
    "GPUs",
    "each reads",
    "all read",
    "kept busy",
    "shards",
    "needed for 1 %",
    "memory: buffer + ahead + shards",
    "checkpoint",
    "epoch",
    "breaks first: share used",
)
FEATURE_BYTES = 16_000  # of a second: 80 mel bands, 100 frames, float16


def kept_busy(gpus: int, given: dict[str, float]) -> float:
    """Return the share of time in which GPUs compute, every step waiting for the slowest loader."""
    random = np.random.default_rng(int(given["seed"]))
    workers, ahead = int(given["workers"]), int(given["workers"] * given["prefetch"])
    computing = given["batch"] / given["clips-a-second"]
    free = np.zeros((workers, gpus))  # when each worker is done with its last batch
    begun: list[float] = []
    end = settled = 0.0
    for step in range(STEPS):
        # Clip lengths of a speech corpus: a gamma of shape 4 has a standard deviation of half its mean.
        lengths = random.gamma(4, 0.25, (int(given["batch"]), gpus)).sum(axis=0)
        # A worker begins a batch when the one that stood in its place has been taken.
        allowed = begun[step - ahead] if step >= ahead else 0.0
        worker = step % workers
        free[worker] = np.maximum(free[worker], allowed) + lengths * given["decode-ms"] / 1000
        begun.append(max(end, float(free[worker].max())))
        end = begun[-1] + computing
        settled = begun[-1] if step == STEPS_WARM else settled
    return (STEPS - STEPS_WARM) * computing / (end - settled)


def lost_to_dry_ranks(gpus: int, shards: int, given: dict[str, float]) -> float:
    """Return the share of an epoch in which processes wait whose shards have ended; 1 with fewer shards than GPUs."""
    if shards < gpus:
        return 1.0
    random = np.random.default_rng(int(given["seed"]))
    sizes = np.maximum(0.0, random.normal(1, given["shard-spread"], shards))
    mine = [sizes[rank::gpus].sum() for rank in range(gpus)]
    return float(1 - np.mean(mine) / np.max(mine))


def shards_needed(gpus: int, given: dict[str, float]) -> int:
    """Return the fewest shards, a power of two a process, of which less than a hundredth of an epoch is lost."""
    number = gpus
    while lost_to_dry_ranks(gpus, number, given) > MOST_LOST and number < 2**24:
        number *= 2
    return number


def place_bytes() -> float:
    """Return the bytes of a place in a shuffle buffer, measured."""
    tracemalloc.start()
    held = [(source, shard, row) for source in range(1) for shard in range(300, 310) for row in range(1000, 2000)]
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / len(held)


def simulate(gpus: int, given: dict[str, float]) -> dict[str, Any]:
    """Return all figures of one number of GPUs."""
    clip = given["kilobytes"] * 1000
    each = given["clips-a-second"] * clip
    clips = given["hours"] * 3600 / given["seconds"]
    shards = int(clips // given["shard-clips"])
    ahead = given["workers"] * given["prefetch"] * given["batch"] * given["seconds"] * FEATURE_BYTES * 2
    checkpoint = given["parameters"] * CHECKPOINT_BYTES / (given["disk-gigabytes"] * 1e9)
    # Share of what there is that is used; above 1 it is not enough.
    used = {
        "storage": gpus * each / (given["storage-gigabytes"] * 1e9),
        "network of a machine": min(gpus, 8) * each / (given["link-gigabytes"] * 1e9),
        "decoding (workers)": given["clips-a-second"] * given["decode-ms"] / 1000 / given["workers"],
        "shards": gpus / shards if shards else np.inf,
        "epoch's end (dry processes)": lost_to_dry_ranks(gpus, shards, given) / 0.1,
        "checkpoints": checkpoint / (given["save-minutes"] * 60) / 0.1,
    }
    first = max(used, key=lambda name: used[name])
    return {
        "gpus": gpus,
        "megabytes_a_gpu": each / 1e6,
        "gigabytes_in_all": gpus * each / 1e9,
        "kept_busy": kept_busy(gpus, given) * min(1.0, 1 / max(used["storage"], used["network of a machine"])),
        "shards": shards,
        "lost_to_dry": lost_to_dry_ranks(gpus, shards, given),
        "shards_needed": shards_needed(gpus, given),
        "epoch_minutes": clips / (gpus * given["clips-a-second"]) / 60,
        "buffer_megabytes": given["buffer"] * place_bytes() / 1e6,
        "ahead_megabytes": ahead / 1e6,
        "shards_ahead_megabytes": 2 * given["shard-clips"] * clip / 1e6,
        "checkpoint_seconds": checkpoint,
        "checkpoint_share": checkpoint / (given["save-minutes"] * 60 + checkpoint),
        "used": used,
        "breaks_first": first,
    }


def row_of(found: dict[str, Any]) -> str:
    """Return one line of the table."""
    share = found["used"][found["breaks_first"]]
    memory = [found[f"{name}_megabytes"] for name in ("buffer", "ahead", "shards_ahead")]
    return (
        f"| {found['gpus']} | {found['megabytes_a_gpu']:.1f} MB/s | {found['gigabytes_in_all']:.2f} GB/s "
        f"| {found['kept_busy']:.1%} | {found['shards']:,}, {found['lost_to_dry']:.1%} lost "
        f"| {found['shards_needed']:,} | {memory[0]:.1f} + {memory[1]:.0f} + {memory[2]:.0f} MB "
        f"| {found['checkpoint_seconds']:.1f} s, {found['checkpoint_share']:.2%} | {found['epoch_minutes']:,.0f} min "
        f"| {found['breaks_first']}: {share:.0%} |"
    )


def main() -> int:
    """Simulate and print a table; return 1 when something is not enough for some number of GPUs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512])
    for name, (default, told) in INPUTS.items():
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{told} ({default:g})")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = vars(parser.parse_args())
    given = {name: options[name.replace("-", "_")] for name in INPUTS}
    for name, value in given.items():
        print(f"{name}: {value:g}: {INPUTS[name][1]}")
    print(f"\n| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|")
    results = [simulate(gpus, given) for gpus in options["gpus"]]
    for found in results:
        print(row_of(found))
    if options["output"]:
        options["output"].write_text(json.dumps({"inputs": given, "results": results}, indent=1) + "\n")
    return int(any(max(found["used"].values()) > 1 for found in results))


if __name__ == "__main__":
    sys.exit(main())
