"""Is an exported model as good as the original? Both decode the same clips, each with its own runtime."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hf_asr.data.corpora import build_splits
from hf_asr.errors import UserError
from hf_asr.evaluation.report import compare_results, read_predictions, replace_file
from hf_asr.evaluation.run import score_split
from hf_asr.export.format import Format
from hf_asr.export.source import Source
from hf_asr.features.prepare import prepare_splits
from hf_asr.inference.generate import resolve_conditions

RESULTS = "verify.json"
# Folders below the export with test_results.json and test_predictions.csv of each side.
ORIGINAL, EXPORTED = "verify/original", "verify/exported"
RATES = ("wer", "wer_interval", "cer", "mer", "wil", "substitutions", "deletions", "insertions", "hits")
SPEED = ("wall_seconds", "rtfx", "seconds_of_audio")
GREEDY = {"num_beams": 1}


def check_verifiable(source_scoring: str) -> None:
    """See that a model has a WER.

    Raises:
        UserError: It writes classes or numbers.
    """
    if source_scoring != "words":
        raise UserError(
            f"--verify: expected a model that writes text, since WER is compared, found one whose scores are of "
            f"{source_scoring}. Export without --verify, and score both folders with hf-asr evaluate."
        )


def verify(
    source: Source, format: Format, folder: Path, split: str, margin: float, quantization: str, device: torch.device
) -> dict[str, Any]:
    """Score the original and the exported model on a split, and write ``folder/verify.json``.

    Args:
        source: The original, unmerged, with the configuration that is verified on.
        format: The format that was written.
        folder: The export.
        split: ``train``, ``validation`` or ``test``.
        margin: Most that the WER may have grown, a fraction: the upper end of the difference's interval decides.
        quantization: What the exported weights are stored in.
        device: Where the original decodes; the exported one runs on the CPU.

    Returns:
        What verify.json holds; rates are fractions.

    Raises:
        UserError: Nothing can be decoded, or the runtime cannot decode as the configuration says.
    """
    check_verifiable(source.family.scoring)
    source.model.to(device)
    before, skipped = _score(source, source.family, split, folder / ORIGINAL, device, format)
    runtime = format.open(folder, source)
    family = replace(source.family, decode=partial(decode_instead, source.family, runtime))
    after, _ = _score(source, family, split, folder / EXPORTED, device, format)
    results = {
        "format": format.name,
        "quantization": quantization,
        "runtime": format.version(),
        "split": split,
        "normalizer": before["normalizer"],
        "num_utterances": before["num_utterances"],
        "num_words": before["num_words"],
        "original": {name: before[name] for name in (*RATES, *SPEED)}
        | {"device": device.type, "dtype": before["dtype"]},
        "exported": {name: after[name] for name in (*RATES, *SPEED)}
        | {"device": "cpu", "dtype": format.computed(runtime)},
        **_difference(folder, margin, source.arguments.experiment.seed),
        **{name: before[name] for name in ("window", "batch_size", "generation")},
        "skipped": skipped,
    }
    replace_file(folder / RESULTS, json.dumps(results, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    return results


def _score(
    source: Source, family: Any, split: str, folder: Path, device: torch.device, format: Format
) -> tuple[dict[str, Any], dict[str, int]]:
    """Decode and score one side."""
    arguments = source.arguments
    splits = build_splits(arguments.data, seed=arguments.experiment.seed, names=(split,))
    encoder = family.make_encoder(source.processor, source.model.config, arguments)
    prepared = prepare_splits(splits, encoder, arguments, trained_on=())
    conditions = resolve_conditions(family, arguments, device, source.model.dtype)
    format.check_decoding(dict(conditions.generation))
    if format.greedy and family.name != "ctc":
        conditions = replace(conditions, generation={**conditions.generation, **GREEDY})
    results = score_split(
        source.model,
        family,
        source.processor,
        prepared[split],
        conditions,
        arguments,
        folder,
        left_out=splits[split].drops,
    )
    return results, results["skipped"]


def decode_instead(family: Any, runtime: Any, model: Any, processor: Any, batch: Any, options: Any) -> list[str]:
    """Decode as the family does, with a runtime in the model's place."""
    texts: list[str] = family.decode(runtime, processor, batch, options)
    return texts


def _difference(folder: Path, margin: float, seed: int) -> dict[str, Any]:
    """Compare the two sides clip by clip."""
    found = compare_results(folder / ORIGINAL, folder / EXPORTED, seed=seed)
    sides = [read_predictions(folder / side) for side in (ORIGINAL, EXPORTED)]
    same = sum(one["hypothesis"] == other["hypothesis"] for one, other in zip(*sides, strict=True))
    return {
        "wer_difference": found.difference,
        "wer_difference_interval": [found.low, found.high],
        "wer_difference_interval_by": found.by,
        "level": found.level,
        "p_value": found.p_value,
        "identical_texts": same,
        "margin": margin,
        "passed": found.high <= margin,
    }
