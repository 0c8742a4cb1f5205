"""Turn a corpus into shards, Parquet or WebDataset: few large files that stream well, with the same clips and ids.

The YAML is that of a run; its data section decides which clips there are (filters, splits, mixtures). A call that was
interrupted goes on when it is given again. The folder's README.md says how to train from it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

EXAMPLE = "hf-asr prepare-shards --config recipes/whisper/common_voice_ru.yaml --output-dir shards --codec opus"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--config", nargs="+", default=[], metavar="YAML", help="the run's YAML files")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="gets the shards")
    parser.add_argument("--format", choices=("parquet", "webdataset"), default="parquet", help="(default: parquet)")
    parser.add_argument(
        "--codec",
        choices=("flac", "flac24", "opus", "keep"),
        default="flac",
        help="flac: 16 bits at 16 kHz; flac24: 24 bits; opus: about a fifth, with loss; keep: the corpus's own bytes",
    )
    parser.add_argument("--shard-mb", type=float, default=256, metavar="MB", help="most audio in each (default: 256)")
    parser.add_argument(
        "--order",
        choices=("corpus", "sorted", "shuffled"),
        default="corpus",
        help="corpus: as it comes; sorted: by duration; shuffled: by experiment.seed (default: corpus)",
    )
    parser.add_argument(
        "--splits", nargs="+", choices=("train", "validation", "test"), default=["train", "validation", "test"]
    )
    parser.add_argument("--num-proc", type=int, metavar="N", help="processes that encode (default: one for each core)")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="over the YAML's values")


def run(options: argparse.Namespace) -> int:
    """Read the corpus, write the shards, print what there is; return 0."""
    from dataclasses import replace

    from hf_asr.config.parser import is_override, load_arguments
    from hf_asr.data.corpora import build_splits
    from hf_asr.data.shard_folder import begin_folder, check_room, end_folder, room_told, seconds_left
    from hf_asr.data.shard_making import ShardSettings, make_shards
    from hf_asr.errors import UserError
    from hf_asr.features.fingerprint import rows_hash
    from hf_asr.features.storage import only_one

    files = [word for word in options.config if not is_override(word)]
    overrides = [word for word in options.config if is_override(word)] + options.overrides
    if not files:
        raise UserError("--config: expected a YAML file, found none; name that of a run")
    if not 0 < options.shard_mb < float("inf"):
        raise UserError(f"--shard-mb: expected a number above 0, found {options.shard_mb:g}. 256 is usual.")
    if options.num_proc is not None and options.num_proc < 1:
        raise UserError(f"--num-proc: expected 1 or more, found {options.num_proc}. Leave it out for one each core.")
    arguments = load_arguments(files, overrides)
    seed, data = arguments.experiment.seed, replace(arguments.data, streaming=False)
    settings = ShardSettings(options.format, options.codec, options.shard_mb, options.order, seed)
    splits = build_splits(data, seed=seed, names=options.splits)
    folder, made = options.output_dir, {}
    seconds = {name: split.seconds or 0.0 for name, split in splits.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_one(folder), room_told(folder, seconds, settings.codec):
        begin_folder(folder, settings, {name: rows_hash(split.rows) for name, split in splits.items()})
        check_room(folder, seconds_left(folder, seconds), settings.codec)
        for name, split in splits.items():
            with _Bar(name, len(split.rows)) as bar:
                made[name] = make_shards(
                    split.rows,
                    name,
                    folder,
                    settings,
                    processes=processes(options.num_proc, len(split.rows)),
                    on_bad_clip=data.on_bad_clip,
                    advance=bar.advance,
                )
            made[name][1].merge(split.drops)
        end_folder(folder, settings, data, made)
    for name, (records, drops) in made.items():
        clips, size = sum(record.clips for record in records), sum(record.bytes for record in records)
        print(
            f"{name}: {clips:,} clips, {len(records):,} shards, {size / 1e6:,.1f} MB; left out: {drops.counts() or 0}"
        )
    print(folder / "README.md")
    return 0


def processes(wanted: int | None, rows: int) -> int:
    """Return how many processes encode: as many as there are cores, fewer for little work."""
    cores = len(os.sched_getaffinity(0)) if "sched_getaffinity" in dir(os) else os.cpu_count() or 1
    # A process takes about 5 s to start, in which another encodes some 2,000 clips.
    return max(1, wanted if wanted is not None else min(cores, rows // 2000))


class _Bar:
    """A progress bar on stderr."""

    def __init__(self, name: str, rows: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.progress.add_task(name, total=rows)

    def advance(self, clips: int) -> None:
        self.progress.advance(self.task, clips)

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
