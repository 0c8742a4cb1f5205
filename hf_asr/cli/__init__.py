"""The command ``hf-asr``: finds the verb's module, parses its options, and turns what went wrong into an exit code.

A verb is a module of this package with ``add_arguments(parser)``, ``run(options) -> int``, an ``EXAMPLE`` and a
docstring that its ``--help`` shows. Only the module of the verb asked for is imported, and it imports heavy libraries
in ``run``.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from hf_asr.cli.outcome import INTERRUPTED, disk_message, tell
from hf_asr.cli.warnings import drop_known_warnings
from hf_asr.errors import UserError

# Verb, which is also its module's name (- is _ there), to the line that `hf-asr --help` shows.
VERBS: dict[str, str] = {
    "demo": "train, test and transcribe with a small model, offline, on a CPU",
    "doctor": "look for what would spoil a run before it is started",
    "evaluate": "score a model on a split: WER, CER, intervals, predictions",
    "report": "write the page about a run again, or about several side by side",
    "inspect": "write a page about a corpus: hours, speakers, words, leaks, pictures of sound",
    "compare": "compare two runs on the same clips: difference, interval, tests, slices",
    "prepare-shards": "write a corpus as Parquet or WebDataset shards, with the same clips and ids",
    "score": "score a file of hypotheses against a file of references; no model needed",
    "transcribe": "write down a recording, or a folder of them",
    "recipes": "list the recipes that come with the package, or copy one",
    "export": "write a model as merged safetensors, for CTranslate2 (faster-whisper) or ONNX; compare its WER",
    "profile": "measure latency, FLOPs, memory, energy and WER of models on this machine",
    "push": "push a run's card, model and results to the Hub",
}

# Verbs that take section.key=value anywhere between their options.
WITH_OVERRIDES = frozenset({"doctor", "evaluate", "export", "inspect", "prepare-shards"})

# What a shell reports for a program whose reader has gone.
BROKEN_PIPE = 128 + 13


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: Arguments behind the program's name; by default those of this process.

    Returns:
        0 done, 1 the run found a problem, 2 the user asked for something impossible, 130 interrupted.

    Raises:
        SystemExit: argparse was asked for ``--help`` or ``--version``, or given an option it does not know.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    verb = main_parser().parse_args(words[:1]).verb
    try:
        return run_verb(verb, words[1:])
    except UserError as error:
        return tell(f"hf-asr {verb}: {error}")
    except KeyboardInterrupt:
        print(f"hf-asr {verb}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone (`| head`): nothing to tell, also not when Python flushes stdout at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        message = disk_message(error)
        if message is None:
            raise
        return tell(f"hf-asr {verb}: {message}")


def run_verb(verb: str, words: Sequence[str]) -> int:
    """Import a verb's module, parse its options and run it; return its exit code."""
    drop_known_warnings()
    module = importlib.import_module(f"{__name__}.{module_of(verb)}")
    parser = argparse.ArgumentParser(
        prog=f"hf-asr {verb}",
        description=module.__doc__,
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    options = parser.parse_intermixed_args(words) if verb in WITH_OVERRIDES else parser.parse_args(words)
    code: int = module.run(options)
    sys.stdout.flush()
    return code


def module_of(verb: str) -> str:
    """Return the name of a verb's module."""
    return verb.replace("-", "_")


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of the first word: a verb, ``--help`` or ``--version``."""
    width = max(map(len, VERBS))
    listed = "\n".join(f"  {verb:<{width}}  {line}" for verb, line in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="hf-asr",
        usage="hf-asr VERB [options]",
        description="Fine-tune, score and publish speech recognition models.",
        epilog=f"verbs:\n{listed}\n\n`hf-asr VERB --help` shows a verb's options and an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the installed version and exit")
    parser.add_argument("verb", type=_verb, metavar="VERB", help="what to do, one of the below")
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that reads the installed packages."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from importlib.metadata import version

        print(f"hf-asr {version('hf_asr')}")
        parser.exit()


def _verb(word: str) -> str:
    if word not in VERBS:
        near = difflib.get_close_matches(word, VERBS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(VERBS)}, found {word!r}{hint}")
    return word
