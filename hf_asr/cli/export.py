"""Write a model for another runtime: one merged safetensors checkpoint, CTranslate2 (faster-whisper), or ONNX graphs.

--model is a run folder, a checkpoint or an adapter folder; adapters are merged and 4- or 8-bit weights dequantised.
With --verify the original and the exported model decode the same clips, each with its own runtime, and the exit code is
1 where the upper end of the 95 % interval of the difference of WER lies above --margin. Exported Whispers compute their
full window, whatever window they were trained with.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_asr.cli.evaluate import read_arguments
from hf_asr.config.arguments import SPLITS, Arguments
from hf_asr.errors import UserError

if TYPE_CHECKING:
    import torch

    from hf_asr.export.source import Place
    from hf_asr.export.verify import Verification

EXAMPLE = (
    "hf-asr export --model runs/whisper_ru --format ctranslate2 --quantization int8 --output-dir whisper_ru_int8 "
    "--verify runs/whisper_ru/config.yaml"
)
FORMATS = ("merged", "ctranslate2", "onnx")
# Points of WER; what a user hardly notices, and what int8 is commonly said to cost.
MARGIN = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's arguments."""
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="run, checkpoint or adapter folder")
    parser.add_argument("--base", metavar="ID|DIR", help="what the adapters go onto, where they do not say it rightly")
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    parser.add_argument("--output-dir", required=True, type=Path, metavar="DIR", help="new folder to write")
    parser.add_argument(
        "--quantization",
        metavar="TYPE",
        help="stored weights; merged: float32 (default), float16, bfloat16; ctranslate2: float16 (default), float32, "
        "bfloat16, int8, int8_float32, int8_float16, int8_bfloat16, int16; onnx: float32",
    )
    parser.add_argument("--verify", nargs="+", metavar="YAML", help="corpus and decoding that both are scored on")
    parser.add_argument("--split", default="test", choices=SPLITS, help="which split (default: %(default)s)")
    parser.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        metavar="POINTS",
        help="per cent points of WER that the interval's upper end may reach (default: %(default)s)",
    )
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="over the YAML's values")


def run(options: argparse.Namespace) -> int:
    """Export, verify where asked; return 0, or 1 where the exported model is worse than the margin allows."""
    check_options(options)

    from transformers.utils import logging

    from hf_asr.export.formats import FORMATS as KNOWN
    from hf_asr.export.formats import check_folder
    from hf_asr.export.source import find_model

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    format = KNOWN[options.format]
    format.require()
    quantization = format.chosen(options.quantization)
    place = find_model(options.model, options.base)
    arguments = configuration(options, place)
    check_folder(options.output_dir)
    verification = export(options, place, arguments, quantization)
    print(f"{options.output_dir}: {options.format}, {quantization}, {size_of(options.output_dir) / 1e6:,.1f} MB")
    if verification is None:
        return 0
    results = verified(options, place, arguments, quantization, verification)
    show(results, options.output_dir)
    return 0 if results["passed"] else 1


def check_options(options: argparse.Namespace) -> None:
    """See that options fit each other.

    Raises:
        UserError: Overrides without a configuration or of the model, or a margin that is no share.
    """
    if options.overrides and not options.verify:
        raise UserError(
            f"expected key=value only with --verify, found {options.overrides[0]}. Give --verify YAML, or leave it out."
        )
    # argparse gives --verify all words up to the next option, key=value among them.
    given = [*(options.verify or []), *options.overrides]
    of_model = [word for word in map(str, given) if word.startswith("model.") and not word.startswith("model.window")]
    if of_model:
        raise UserError(
            f"expected the model as it lies in --model, found {of_model[0]}. Leave it out; --base and --quantization "
            "are what can be chosen."
        )
    if not 0 <= options.margin <= 100:
        raise UserError(
            f"--margin: expected per cent points from 0 to 100, found {options.margin:g}. Give such as 0.5."
        )


def configuration(options: argparse.Namespace, place: Place) -> Arguments:
    """Return what the model is loaded with; with --verify, corpus and decoding as well."""
    from hf_asr.export.source import arguments_of

    if not options.verify:
        return arguments_of(place)
    asked = argparse.Namespace(config=options.verify, overrides=options.overrides, model=place.model.name_or_path)
    given = read_arguments(asked)
    if {given.model.window, given.evaluation.window} != {"full"}:
        print("the full window is computed: thinned and clip windows are not exported", file=sys.stderr)
    return arguments_of(place, replace(given, data=replace(given.data, streaming=False)))


def export(options: argparse.Namespace, place: Place, arguments: Arguments, quantization: str) -> Verification | None:
    """Load the model and write it; return what it is verified on, which is read before."""
    from hf_asr.export.formats import FORMATS as KNOWN
    from hf_asr.export.formats import write_export
    from hf_asr.export.source import open_source
    from hf_asr.export.verify import check_verifiable, read_verification
    from hf_asr.models import get_family

    format, family = KNOWN[options.format], get_family(arguments.model)
    if options.verify:
        check_verifiable(family.scoring)
        format.check_decoding(dict(family.decoding_options(arguments)))
    format.check(family.name, family.name)
    source = open_source(place, arguments)
    verification = read_verification(source, format, options.split, device_of(arguments)) if options.verify else None
    write_export(source, format, options.output_dir, quantization)
    return verification


def verified(
    options: argparse.Namespace, place: Place, arguments: Arguments, quantization: str, verification: Verification
) -> dict[str, Any]:
    """Load the original anew, score both and return what verify.json holds."""
    from hf_asr.export.formats import FORMATS as KNOWN
    from hf_asr.export.source import open_source
    from hf_asr.export.verify import verify

    source, format = open_source(place, arguments), KNOWN[options.format]
    return verify(source, format, options.output_dir, verification, options.margin / 100, quantization)


def device_of(arguments: Arguments) -> torch.device:
    """Return where the original decodes: an accelerator where there is one."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=bool(arguments.training.get("use_cpu")) or not torch.accelerator.is_available()).device


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def show(results: Mapping[str, Any], folder: Path) -> None:
    """Print both rates, the difference with its interval, and the verdict."""
    low, high = results["wer_difference_interval"]
    for side, name in (("original", "original"), ("exported", results["runtime"])):
        scores = results[side]
        print(f"{name:<20} WER {100 * scores['wer']:.2f} %, CER {100 * scores['cer']:.2f} %, RTFx {scores['rtfx']:.1f}")
    print(
        f"difference {100 * results['wer_difference']:+.2f} points of WER, 95 % interval by "
        f"{results['wer_difference_interval_by']} {100 * low:+.2f} to {100 * high:+.2f}, normalizer "
        f"{results['normalizer']}; {results['identical_texts']:,} of {results['num_utterances']:,} texts identical"
    )
    verdict = "within" if results["passed"] else "above"
    print(f"{verdict} the margin of {100 * results['margin']:g} points")
    print(folder / "verify.json")
