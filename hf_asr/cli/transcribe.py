"""Write down a recording, or a folder of them, however long: txt, json, csv, srt or vtt."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hf_asr.errors import UserError
from hf_asr.files import write_whole
from hf_asr.inference.formats import FORMATS, SUBTITLES, Transcript, subtitle_names
from hf_asr.utterance import Drops

EXAMPLE = "hf-asr transcribe --model runs/whisper_ru/best_checkpoint --input talk.mp3 --output talk.srt"

# What messages about a configuration name, and what the user of this verb gave instead.
KEYS = {"model.name_or_path": "--model", "data.language": "--language"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--model", required=True, metavar="ID|DIR", help="a Whisper checkpoint")
    parser.add_argument("--input", required=True, type=Path, metavar="FILE|DIR", help="audio, or a folder with audio")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where to write (stdout); srt and vtt of a folder: a folder"
    )
    parser.add_argument("--format", choices=FORMATS, help="by default told by --output's suffix, else txt")
    parser.add_argument("--language", metavar="TAG", help="language spoken, such as ru; by default the checkpoint's")
    parser.add_argument("--timestamps", action="store_true", help="one line (txt) or row (csv) a segment, with times")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="windows decoded together (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Transcribe; return 0, or 1 when not one input could be decoded."""
    format = options.format or format_of(options.output)
    check_target(format, options.input, options.output)
    if options.batch_size < 1:
        raise UserError(f"--batch-size: expected 1 or more, found {options.batch_size}; give a positive number")

    from transformers.utils import logging

    from hf_asr.inference.transcribe import find_audio, load_transcriber

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    files = find_audio(options.input)
    try:
        transcriber = load_transcriber(options.model, language=options.language, batch_size=options.batch_size)
    except UserError as error:
        raise UserError(in_options(str(error))) from error
    timed = options.timestamps or format in SUBTITLES
    transcripts, drops = transcriber.transcribe(files, timestamps=timed)
    tell(drops, len(files), transcriber.no_timestamps, timed)
    if not transcripts:
        return 1
    write(transcripts, format, options)
    return 0


def in_options(message: str) -> str:
    """Put this verb's options in the place of a configuration's keys: there is no configuration here."""
    for key, option in KEYS.items():
        message = message.replace(key, option)
    return message


def format_of(output: Path | None) -> str:
    """Tell the format from the output's suffix; txt for stdout and for a name without a suffix.

    Raises:
        UserError: The suffix is no format's.
    """
    suffix = "" if output is None else output.suffix.lower().removeprefix(".")
    if not suffix:
        return "txt"
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(f"--output: expected a suffix out of {known}, found {output}; rename it or give --format")
    return suffix


def check_target(format: str, source: Path, output: Path | None) -> None:
    """See that the output can hold what the input gives, before a model is loaded.

    Raises:
        UserError: It cannot.
    """
    if not (format in SUBTITLES and source.is_dir()):
        if output is not None and output.is_dir():
            raise UserError(f"--output: expected a file to write, found the folder {output}; name a file in it")
    elif output is None or (output.exists() and not output.is_dir()):
        found = "none" if output is None else f"the file {output}"
        raise UserError(f"--output: {format} is one file a recording: expected a folder, found {found}; name a folder")


def tell(drops: Drops, files: int, no_timestamps: str | None, timed: bool) -> None:
    """Say on stderr what was left out, and where the times come from when not from the model."""
    for line in drops.lines():
        print(line, file=sys.stderr)
    if drops.total():
        print(f"{files - drops.total()} of {files} files were transcribed", file=sys.stderr)
    if no_timestamps:
        instead = "segment times are the bounds of windows" if timed else "long files were cut into windows"
        print(f"{instead} between quiet points, not the model's own timestamps: {no_timestamps}", file=sys.stderr)


def write(transcripts: Sequence[Transcript], format: str, options: argparse.Namespace) -> None:
    """Write transcripts where the options say."""
    writer = FORMATS[format]
    if format in SUBTITLES and options.input.is_dir():
        for name, item in zip(subtitle_names([t.file for t in transcripts], format), transcripts, strict=True):
            write_whole(options.output / name, writer([item], True, False))
        return
    text = writer(transcripts, options.timestamps, options.input.is_dir())
    if options.output is None:
        sys.stdout.write(text)
    else:
        write_whole(options.output, text)
