"""Train, test and transcribe with a small model: the main job end to end, offline, on a CPU, in some minutes.

A corpus is spoken by espeak-ng in two languages. A small Whisper learns it from clean voices; then it is fine-tuned on
other voices, paces and noise, scored before and after on voices neither training heard, and writes one clip down.
The folder it leaves is a run folder like any other; the base model's run is the folder `base` in it.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.cli.recipes import find_recipes
from hf_asr.config.parser import load_arguments
from hf_asr.errors import UserError

if TYPE_CHECKING:
    from hf_asr.config.arguments import Arguments

EXAMPLE = "hf-asr demo --output-dir runs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument(
        "--output-dir", type=Path, default=Path("runs/demo"), metavar="DIR", help="the run folder (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Read top to bottom: corpus, base model, fine-tuning with its proof, one transcript; return 0."""
    started = time.perf_counter()
    folder: Path = options.output_dir.absolute()
    check_folder(folder)

    # ---- The speech of everything that follows, and a model that knows nothing ----
    tell("speaking the demo corpus")
    base, fine_tuning = configurations(folder)
    speak(base, fine_tuning)
    untrained(base)

    # ---- A base model for clean voices ----
    tell("training a small Whisper on clean voices")
    train(base)

    # ---- Fine-tuning on other voices, with baseline, result and card ----
    tell("fine-tuning it on other voices, paces and noise")
    summary = train(fine_tuning)

    # ---- One clip written down ----
    transcribe(fine_tuning)
    tell(f"done in {time.perf_counter() - started:.0f} s; the run folder is {folder}")
    return 0
