"""Look for what would spoil a run, before it is started: the machine, and with --config the corpus and the model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from transformers import PreTrainedConfig, ProcessorMixin

    from hf_asr.config.arguments import Arguments
    from hf_asr.data.checks import Check, Transcript
    from hf_asr.data.corpora import Split
    from hf_asr.features.extract import ClipEncoder

EXAMPLE = "hf-asr doctor --config recipes/whisper/common_voice_ru.yaml data.path=cv-corpus-22.0/ru"

# What is looked at of each split; 10,000 texts take about 3 s to encode and decode.
MAX_TEXTS = 10_000
# Decoding takes 1 ms (a 5-s MP3) to 11 ms (a segment inside a long Opus file): 7 s at most.
MAX_DECODED = 600
ADAM_STATES = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--config", nargs="+", default=[], metavar="YAML", help="the run's YAML files")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="over the YAML's values")


def run(options: argparse.Namespace) -> int:
    """Check, print a table and every finding; return 0 when healthy, 1 with findings."""
    from rich.console import Console

    from hf_asr.cli.machine import check_machine
    from hf_asr.config.parser import is_override, load_arguments
    from hf_asr.errors import UserError

    files = [word for word in options.config if not is_override(word)]
    overrides = [word for word in options.config if is_override(word)] + options.overrides
    if overrides and not files:
        raise UserError(f"expected --config with a YAML beside key=value, found only {' '.join(overrides)}. Add one.")
    with Console(stderr=True).status("looking"):
        checks = list(check_machine(Path()) if not files else check_run(load_arguments(files, overrides)))
    return report(checks, Console())


def report(checks: Sequence[Check], console: Console) -> int:
    """Print what was looked at as a table, and below it every finding in full."""
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "", "found")
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("finding", "bold red")
        table.add_row(Text(check.name), mark, Text(check.found.partition("; ")[0]))
    console.print(table)
    findings = [check for check in checks if not check.ok]
    for check in findings:
        lines = f"{check.name}: expected {check.expected}\n  found: {check.found}\n  do: {check.do}"
        console.print(Text(lines), soft_wrap=True)
    console.print(f"{len(findings)} findings" if findings else "healthy")
    return 1 if findings else 0


def check_run(arguments: Arguments) -> Iterator[Check]:
    """Yield the checks of machine, model and corpus; a model or corpus that cannot be read is a finding."""
    from hf_asr.cli.machine import check_machine, check_model_reachable
    from hf_asr.data.checks import Check
    from hf_asr.data.corpora import build_splits
    from hf_asr.errors import UserError

    workers = arguments.data.num_workers
    yield from check_machine(
        arguments.run_dir,
        dtype=wanted_dtype(arguments),
        on_cpu=is_on_cpu(arguments),
        num_workers=0 if isinstance(workers, str) else workers,
    )
    yield check_model_reachable(arguments.model.name_or_path, arguments.model.revision)
    encoder = processor = None
    try:
        processor, config, encoder = load_text_side(arguments)
        yield from check_room(arguments, config)
    except UserError as error:
        yield Check("model", ok=False, expected="a model that can be trained", found=str(error), do="As it says.")
    try:
        splits = build_splits(arguments.data, seed=arguments.experiment.seed)
    except UserError as error:
        yield Check("data", ok=False, expected="splits that can be read", found=str(error), do="As it says.")
        return
    yield from check_data(arguments, splits, processor, encoder)


def wanted_dtype(arguments: Arguments) -> str:
    """Return the dtype that training computes in."""
    if arguments.training.get("bf16"):
        return "bfloat16"
    return "float16" if arguments.training.get("fp16") else "float32"


def is_on_cpu(arguments: Arguments) -> bool:
    """Tell whether training is told to leave an accelerator alone."""
    return bool(arguments.training.get("use_cpu"))


def load_text_side(arguments: Arguments) -> tuple[ProcessorMixin, PreTrainedConfig, ClipEncoder]:
    """Load what makes labels, and the model's configuration; no weights.

    Raises:
        UserError: The model cannot be found or has no language like this.
    """
    from hf_asr.models import get_family

    family = get_family(arguments.model)
    processor = family.load_processor(arguments.model, arguments.data)
    config = family.load_config(arguments.model, processor)
    return processor, config, family.make_encoder(processor, config, arguments)


def check_room(arguments: Arguments, config: PreTrainedConfig) -> Iterator[Check]:
    """Forecast the memory and the disk that weights and checkpoints take at most, everything being trained."""
    from hf_asr.cli.machine import check_disk, check_memory
    from hf_asr.training.arguments import DEFAULTS

    weights = 4 * num_parameters(config)
    kept = arguments.training.get("save_total_limit", DEFAULTS["save_total_limit"]) or 1
    yield check_memory(weights * (2 + ADAM_STATES), "weights, gradients and AdamW's states", on_cpu=is_on_cpu(arguments))
    yield check_disk(arguments.run_dir, (kept + 1) * weights * (1 + ADAM_STATES) + weights, "checkpoints")


def num_parameters(config: PreTrainedConfig) -> int:
    """Count a model's parameters without making its weights."""
    import torch
    from transformers import AutoModelForSpeechSeq2Seq

    with torch.device("meta"):
        return int(AutoModelForSpeechSeq2Seq.from_config(config).num_parameters())


def check_data(
    arguments: Arguments, splits: dict[str, Split], processor: Any, encoder: ClipEncoder | None
) -> Iterator[Check]:
    """Yield the checks of a corpus; those of labels only where the model could be loaded.

    Args:
        arguments: The whole configuration.
        splits: Its splits.
        processor: The model's processor; None without one.
        encoder: Makes labels; None without a model.
    """
    from hf_asr.data import checks

    for split in splits.values():
        clips = None if split.seconds is None else len(split.rows)
        yield checks.check_split(split.name, clips, split.seconds, split.drops)
    yield from check_leaks(splits)
    transcripts = [item for split in splits.values() for item in transcripts_of(split, arguments)]
    yield sample_check(splits, len(transcripts))
    yield checks.check_empty(transcripts)
    yield checks.check_speaking_rate(transcripts)
    yield checks.check_script(transcripts)
    yield check_sample_of_audio(splits)
    if encoder is not None:
        yield from check_labels(transcripts, processor, encoder)
        yield from check_cache(arguments, splits, encoder)


def check_leaks(splits: dict[str, Split]) -> Iterator[Check]:
    """Yield a finding for everything that two splits share."""
    from hf_asr.data.checks import Check

    lines = [line for split in splits.values() for line in split.warnings]
    if not lines:
        seen = [split.name for split in splits.values() if split.seconds is not None]
        yield Check("leaks", ok=True, found=f"none between {', '.join(seen)}")
    for line in lines:
        yield Check(
            "leaks",
            ok=False,
            found=line,
            expected="splits that share neither clips nor sentences nor speakers",
            do="Change data.splits so that none is in two, or WER flatters the model.",
        )


def sample_check(splits: dict[str, Split], looked_at: int) -> Check:
    """Say how many of the texts the checks below looked at."""
    from hf_asr.data.checks import Check

    sizes = [len(split.rows) for split in splits.values() if split.seconds is not None]
    stream = " and of the beginning of the stream" if len(sizes) < len(splits) else ""
    return Check("texts", ok=True, found=f"{looked_at:,} looked at, of {sum(sizes):,}{stream}")


def sample_rows(split: Split, limit: int, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield an evenly spread sample of a split, or the beginning of a stream."""
    import datasets

    from hf_asr.data.checks import spread

    if isinstance(split.rows, datasets.IterableDataset):
        yield from islice(split.rows, limit)
    else:
        yield from split.rows.select_columns(list(columns)).select(spread(len(split.rows), limit))


def transcripts_of(split: Split, arguments: Arguments) -> Iterator[Transcript]:
    """Yield the texts of a split as the checks take them."""
    from hf_asr.data.checks import Transcript
    from hf_asr.text import apply_pipeline

    for row in sample_rows(split, MAX_TEXTS, ("id", "text", "duration", "language")):
        yield Transcript(
            f"{split.name}: {row['id']}",
            row["text"],
            apply_pipeline(arguments.data.text_pipeline, row["text"]),
            row["duration"],
            row["language"] or arguments.data.language or "",
        )


def check_sample_of_audio(splits: dict[str, Split]) -> Check:
    """Decode some clips of every split."""
    from hf_asr.data.checks import check_audio
    from hf_asr.utterance import AudioRef

    rows = [
        (f"{split.name}: {row['id']}", AudioRef(**row["audio"]))
        for split in splits.values()
        for row in sample_rows(split, MAX_DECODED // len(splits), ("id", "audio"))
    ]
    total = sum(len(split.rows) for split in splits.values() if split.seconds is not None)
    return check_audio([place for place, _ in rows], [audio for _, audio in rows], max(total, len(rows)))


def check_labels(transcripts: Sequence[Transcript], processor: Any, encoder: ClipEncoder) -> Iterator[Check]:
    """Yield what becomes of the texts as labels: length, characters, and the way back."""
    from hf_asr.data import checks

    tokenizer = processor.tokenizer
    labels = [encoder.labels(item.text) for item in transcripts]
    yield checks.check_label_lengths(
        [item.place for item in transcripts], [len(ids) for ids in labels], encoder.max_label_tokens
    )
    written = [ids[len(encoder.label_prefix) : -1] for ids in labels]
    yield checks.check_round_trip(transcripts, [tokenizer.decode(ids) for ids in written])
    yield checks.check_characters(transcripts, Spelling(tokenizer))


class Spelling:
    """A tokenizer's way from a text to tokens and back, without special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> str:
        """Return what is left of a text."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return str(self.tokenizer.decode(ids))


def check_cache(arguments: Arguments, splits: dict[str, Split], encoder: ClipEncoder) -> Iterator[Check]:
    """Forecast the feature cache's disk, when there will be one."""
    from hf_asr.cli.machine import check_disk
    from hf_asr.features.cache import cache_dir, forecast_bytes

    kept = [split for split in splits.values() if split.seconds is not None]
    if arguments.features.cache and kept:
        needed = sum(forecast_bytes(split.seconds or 0.0, len(split.rows), encoder) for split in kept)
        yield check_disk(cache_dir(arguments.features), needed, "the feature cache")
