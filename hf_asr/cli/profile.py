"""Profile models on this machine: latency, throughput, FLOPs, memory, energy, operators and, with a corpus, WER.

Every combination of model, variant, device, type, duration and batch size is measured and written to profile.json,
profile.csv and report.html. config:NAME builds an architecture with random weights: its speed is real, it writes no
text. A grid that was stopped goes on where it was when it is started again with the same folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError

EXAMPLE = (
    "hf-asr profile --model config:whisper-tiny --model config:wav2vec2-base --durations 5,15,30 "
    "--batch-sizes 1,2,4,8 --device cpu --output-dir profile"
)
DEVICES = ("cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
GIB = 2**30
# Seconds of a clip: noise of an hour takes 2 GiB to make.
LONGEST = 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    add = parser.add_argument
    add("--model", action="append", default=[], metavar="ID|DIR|config:NAME", help="what to profile; may be repeated")
    add("--output-dir", type=Path, metavar="DIR", help="where profile.json, profile.csv and report.html go")
    add("--durations", type=seconds, default=[5.0, 15.0, 30.0, 60.0], metavar="S,S", help="of the clips (5,15,30,60)")
    add("--batch-sizes", type=sizes, default=[1, 2, 4, 8, 16], metavar="N,N", help="clips together (1,2,4,8,16)")
    add("--device", type=words, default=["cpu"], metavar="cpu|cuda", help="one, or both with a comma (cpu)")
    add("--dtype", type=words, default=["float32"], metavar="TYPE", help=f"of the weights: {', '.join(DTYPES)}")
    add("--variants", type=words, default=["sdpa"], metavar="NAME,NAME", help="how models are run (sdpa); `all`: every")
    add("--tokens", type=int, default=32, metavar="N", help="that a decoder writes in speed rows (%(default)s)")
    add(
        "--repeats",
        type=int,
        default=5,
        metavar="N",
        help="samples of a cell at most (%(default)s; batch 1: 4 times that)",
    )
    add("--cell-seconds", type=float, default=10.0, metavar="S", help="time for a cell's samples (%(default)s)")
    add("--minutes", type=float, metavar="N", help="for the whole grid: then fewer samples a cell, never less than one")
    add("--threads", type=int, default=None, metavar="N", help="of the CPU (by default torch's own choice)")
    add("--data", nargs="+", metavar="YAML", help="a configuration whose clips are used and scored; else shaped noise")
    add("--split", default="test", help="which split of it (%(default)s)")
    add("--clips", type=int, default=16, metavar="N", help="clips of each duration (%(default)s)")
    add("--language", metavar="TAG", help="language of the speech; by default that of --data")
    add("--tokenizer", metavar="ID|DIR", help="tokenizer for config:NAME; without one there is no text")
    add("--seed", type=int, default=42, metavar="N", help="of weights and clips (%(default)s)")
    add("--memory-limit", type=float, metavar="GIB", help="plan as if the device had this much free")
    add("--estimate-energy", action="store_true", help="let codecarbon estimate where nothing counts; marked so")
    add("--grid-grams", type=float, metavar="G", help="grams of CO2 a kWh of your grid; none is assumed")
    add("--no-operators", action="store_true", help="do not profile operators")
    add("--trace", action="store_true", help="keep chrome traces in DIR/traces")
    add("--train", action="store_true", help="time a training step of each model too: loader, forward, backward, AdamW")
    add("--compare", nargs=2, type=Path, metavar="JSON", help="compare two profile.json, and do nothing else")


def run(options: argparse.Namespace) -> int:
    """Profile, write and print; return 0, or 1 when not one cell could be measured."""
    if options.compare:
        from hf_asr.profiling.compare import compare_files

        print(compare_files(*options.compare))
        return 0
    check(options)
    # torch.profiler's own library writes its errors (no GPU to profile) to stderr, unless told before it is loaded.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

    from hf_asr.cli.profile_run import profile

    return profile(options)


def check(options: argparse.Namespace) -> None:
    """See that the options can be meant, before anything heavy is imported.

    Raises:
        UserError: They cannot.
    """
    for name, value in (("--model", options.model), ("--output-dir", options.output_dir)):
        if not value:
            raise UserError(f"{name}: expected one, found none; name it")
    for name, least in (("tokens", 1), ("repeats", 1), ("clips", 1), ("threads", 1), ("seed", 0)):
        given = vars(options)[name]
        if given is not None and given < least:
            raise UserError(f"--{name}: expected {least} or more, found {given}; give a larger number")
    for name in ("cell-seconds", "minutes", "memory-limit", "grid-grams"):
        given = vars(options)[name.replace("-", "_")]
        if given is not None and not 0 < given < float("inf"):
            raise UserError(f"--{name}: expected a number above 0, found {given:g}; leave it out, or give one")
    for name, given in (("--durations", options.durations), ("--batch-sizes", options.batch_sizes)):
        if not given:
            raise UserError(f"{name}: expected numbers such as 5,15, found none; leave it out for the usual ones")
    one_of("--device", options.device, DEVICES)
    one_of("--dtype", options.dtype, DTYPES)
    for name in options.model:
        check_model(name)
    if "cuda" in options.device:
        check_card()


def check_model(name: str) -> None:
    """See that a model may be there: without the seconds that loading torch and transformers takes.

    Raises:
        UserError: It is a folder without a config.json, or an id that neither the cache nor the Hub can give.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.errors import HFValidationError

    if name.startswith("config:") or Path(name, "config.json").is_file():
        return
    if Path(name).exists():
        raise UserError(
            f"--model: expected a transformers checkpoint, found {name} without a config.json; "
            "give the folder that save_pretrained wrote"
        )
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        raise UserError(f"--model: expected a folder, a Hub id or config:NAME, found {name}: no such folder") from error
    if is_offline_mode() and not isinstance(cached, str):
        raise UserError(
            f"--model: expected a transformers checkpoint, found no folder {name}, and the Hub is switched off "
            "(HF_HUB_OFFLINE) with no copy in its cache; check the name, give a local folder or config:NAME, "
            "or fetch it once with the Hub switched on"
        )


def check_card() -> None:
    """See that torch can use a CUDA device.

    Raises:
        UserError: It cannot.
    """
    import torch

    if not torch.cuda.is_available():
        raise UserError("--device: expected a CUDA device, found none that torch can use; give --device cpu")


def one_of(name: str, given: Sequence[str], known: Sequence[str]) -> None:
    """See that every word is known.

    Raises:
        UserError: One is not.
    """
    wrong = [word for word in given if word not in known]
    if wrong:
        raise UserError(f"{name}: expected {', '.join(known)}, found {', '.join(wrong)}; choose of these")


def words(text: str) -> list[str]:
    """Read names separated by commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def seconds(text: str) -> list[float]:
    """Read lengths of clips separated by commas, each once."""
    given = list(dict.fromkeys(_positive(word, float, "seconds") for word in words(text)))
    if given and max(given) > LONGEST:
        raise argparse.ArgumentTypeError(f"expected at most {LONGEST} seconds, found {max(given):g}; leave it out")
    return given


def sizes(text: str) -> list[int]:
    """Read positive whole numbers separated by commas, each once."""
    return list(dict.fromkeys(_positive(word, int, "batch sizes") for word in words(text)))


def _positive(word: str, kind: Any, what: str) -> Any:
    try:
        number = kind(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {what}, found {word!r}; give numbers such as 5,15") from error
    if not 0 < number < float("inf"):  # nan too
        raise argparse.ArgumentTypeError(f"expected {what} above 0, found {word}; leave it out")
    return number
