"""Look at a corpus before training on it: one page, and its numbers as JSON.

Hours, durations, speakers, vocabulary, words of the test set that training never sees, texts that do not fit their
clips, sentences said twice, what two splits share, and spectrograms with their sound. The YAML is that of a run; only
its data section and evaluation.normalizer are used. Every split is read whole, data.streaming or not, and nothing but
the clips of the gallery is decoded.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.errors import UserError

if TYPE_CHECKING:
    from hf_asr.config.arguments import Arguments
    from hf_asr.data.corpora import Split
    from hf_asr.evaluation.corpus_facts import SplitTexts
    from hf_asr.evaluation.page_corpus import SampleClip

EXAMPLE = "hf-asr inspect --config recipes/whisper/common_voice_ru.yaml data.path=cv-corpus-22.0/ru --output-dir corpus"

PAGE, NUMBERS = "inspect.html", "inspect.json"
ROWS_AT_ONCE = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--config", nargs="+", default=[], metavar="YAML", help="the run's YAML files")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help=f"gets {PAGE} and {NUMBERS}")
    parser.add_argument(
        "--clips", type=int, default=6, metavar="N", help="clips of each split in the gallery (default: %(default)s)"
    )
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="over the YAML's values")


def run(options: argparse.Namespace) -> int:
    """Read the corpus, write the page and the numbers, print where they are; return 0."""
    from hf_asr.config.parser import is_override, load_arguments

    files = [word for word in options.config if not is_override(word)]
    overrides = [word for word in options.config if is_override(word)] + options.overrides
    if not files:
        raise UserError("--config: expected a YAML file, found none; name that of a run")
    if options.clips < 0:
        raise UserError(f"--clips: expected 0 or more, found {options.clips}; give 0 for a page without sound")
    for path in inspect_corpus(load_arguments(files, overrides), options.output_dir, options.clips):
        print(path)
    return 0


def inspect_corpus(arguments: Arguments, output_dir: Path, clips: int) -> tuple[Path, Path]:
    """Write inspect.html and inspect.json.

    Args:
        arguments: The whole configuration.
        output_dir: Their folder, made when missing.
        clips: Clips of each split in the gallery.

    Raises:
        UserError: The corpus cannot be read, or the folder not be written.
    """
    from dataclasses import replace

    from hf_asr.data.corpora import build_splits
    from hf_asr.evaluation.corpus_facts import corpus_facts
    from hf_asr.evaluation.page_corpus import corpus_page
    from hf_asr.evaluation.report import replace_file
    from hf_asr.training.arguments import needed_splits

    data = replace(arguments.data, streaming=False)
    splits = build_splits(data, seed=arguments.experiment.seed, names=needed_splits(arguments))
    normalizer = arguments.evaluation.normalizer
    facts = corpus_facts([texts_of(split, normalizer) for split in splits.values()], normalizer)
    shown, broken = gallery_of(list(splits.values()), clips)
    page = corpus_page(facts, shown, name=corpus_title(arguments), subtitle=subtitle(arguments), remark=broken)
    replace_file(output_dir / PAGE, page)
    replace_file(output_dir / NUMBERS, json.dumps(facts, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    return output_dir / PAGE, output_dir / NUMBERS


def texts_of(split: Split, normalizer: str) -> SplitTexts:
    """Return a split as columns, its texts normalised, with a progress bar for long ones."""
    from rich.console import Console
    from rich.progress import track

    from hf_asr.evaluation.corpus_facts import SplitTexts
    from hf_asr.text import get_pipeline

    pipeline = get_pipeline(normalizer)
    names = ["id", "text", "speaker", "duration", "label"]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    rows: Any = split.rows
    blocks = rows.select_columns(names).iter(batch_size=ROWS_AT_ONCE)
    number, console = -(-len(rows) // ROWS_AT_ONCE), Console(stderr=True)
    spoken: list[str] = []
    for block in track(blocks, split.name, total=number, console=console, disable=not console.is_terminal):
        for name in names:
            columns[name] += block[name]
        spoken += map(pipeline, block["text"])
    return SplitTexts(
        split.name,
        columns["id"],
        columns["text"],
        spoken,
        columns["speaker"],
        columns["duration"],
        columns["label"],
        split.drops.reasons,
        split.warnings,
    )


def gallery_of(splits: Sequence[Split], most: int) -> tuple[list[SampleClip], str]:
    """Return clips evenly spread over each split, and which of them could not be decoded."""
    from hf_asr.data.audio import BrokenAudio
    from hf_asr.data.checks import spread

    shown, broken = [], []
    for split in splits:
        rows: Any = split.rows
        for place in spread(len(rows), most) if most else []:
            try:
                shown.append(sample_clip(split.name, rows[place]))
            except BrokenAudio as error:
                broken.append(f"{rows[place]['id']} ({error})")
    return shown, f"Could not be decoded: {'; '.join(broken)}." if broken else ""


def sample_clip(split: str, row: dict[str, Any]) -> SampleClip:
    """Return a row's picture and sound; of a recording of an hour its first minute.

    Raises:
        BrokenAudio: It cannot be decoded.
    """
    from hf_asr.cli.run_report import COMPRESSION, LONGEST_CLIP
    from hf_asr.cli.spectrogram import spectrogram_png
    from hf_asr.data.audio import SAMPLE_RATE, encode, load
    from hf_asr.evaluation.page_corpus import SampleClip
    from hf_asr.evaluation.page_scale import short_name
    from hf_asr.utterance import AudioRef

    samples = load(AudioRef(**row["audio"]))
    seconds = len(samples) / SAMPLE_RATE
    samples = samples[: int(LONGEST_CLIP * SAMPLE_RATE)]
    audio = encode(samples, SAMPLE_RATE, "opus", compression=COMPRESSION)
    speaker = f", {short_name(row['speaker'])}" if row["speaker"] else ""
    return SampleClip(split, row["id"], row["text"], spectrogram_png(samples), audio, f"{seconds:.1f} s{speaker}")


def corpus_title(arguments: Arguments) -> str:
    """Return the corpus's name for the heading."""
    from hf_asr.hub.model_card import corpus_name

    return corpus_name(arguments.data)


def subtitle(arguments: Arguments) -> str:
    """Return one line on what was read."""
    return " · ".join(facts_read(arguments))


def facts_read(arguments: Arguments) -> Iterator[str]:
    """Yield what decides which clips there are."""
    data = arguments.data
    yield f"clips of {data.min_seconds:g} to {data.max_seconds:g} s"
    if data.limit:
        yield "limited to " + ", ".join(f"{number:,} of {name}" for name, number in data.limit.items() if number)
    yield f"normalizer {arguments.evaluation.normalizer}"
