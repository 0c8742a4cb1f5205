"""Run a ladder: a base and its variants, each with several seeds, and one table that says what made a difference.

accelerate launch recipes/ablation.py --config recipes/whisper/gigaspeech_s.yaml recipes/ladders/freezing.yaml \
    [more.yaml] [key=value ...]
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hf_asr.cli.outcome import INTERRUPTED, run_recipe, tell
from hf_asr.config.ladder import parse_ladder
from hf_asr.errors import UserError


def main(argv: Sequence[str]) -> None:
    """Read top to bottom: configurations of all runs, the runs, the table."""
    ladder = parse_ladder(argv, __doc__ or "")
    check_one_process()

    # Heavy libraries come after the configuration was found right.
    from hf_asr.cli.ladder import run_ladder, show

    # A scheduler's SIGTERM ends the ladder as Ctrl-C does: with the run it is in, and with a table.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        table = run_ladder(ladder, Path(__file__).resolve().parent)
    except KeyboardInterrupt:
        tell("interrupted: what is finished is kept. To go on, give the same command again.")
        sys.exit(INTERRUPTED)
    show(table, ladder.folder)


def check_one_process() -> None:
    """See that the ladder itself is one process; its runs may be several.

    Raises:
        UserError: It was launched as several.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise UserError(
            f"expected one process for the ladder, found {processes}. Launch it with recipes/accelerate/one_gpu.yaml "
            "or cpu.yaml, and name the file with several processes in ladder.accelerate_config: every run uses it."
        )


if __name__ == "__main__":
    sys.exit(run_recipe(main))
