"""Is an exported model as good as the original? Both decode the same clips, each with its own runtime."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hf_asr.data.corpora import build_splits
from hf_asr.errors import UserError
from hf_asr.evaluation.clip_columns import clip_columns
from hf_asr.evaluation.report import compare_results, read_predictions, replace_file
from hf_asr.evaluation.run import score_split
from hf_asr.export.format import Format
from hf_asr.export.source import Source
from hf_asr.features.cache import PreparedSplit
from hf_asr.features.prepare import prepare_splits
from hf_asr.inference.generate import Conditions, bare_model, resolve_conditions, split_batches
from hf_asr.models.family import collator_for
from hf_asr.utterance import Drops

RESULTS = "verify.json"
# Folders below the export with test_results.json and test_predictions.csv of each side.
ORIGINAL, EXPORTED = "verify/original", "verify/exported"
RATES = ("wer", "wer_interval", "cer", "mer", "wil", "substitutions", "deletions", "insertions", "hits")
SPEED = ("wall_seconds", "rtfx", "seconds_of_audio")
GREEDY = {"num_beams": 1}


@dataclass(frozen=True)
class Verification:
    """What both sides decode, and how.

    Attributes:
        clips: The split, prepared.
        left_out: What the corpus left out of it.
        conditions: How it is decoded.
        device: Where the original decodes; the exported one runs on the CPU.
    """

    clips: PreparedSplit
    left_out: Drops
    conditions: Conditions
    device: torch.device


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


def read_verification(source: Source, format: Format, split: str, device: torch.device) -> Verification:
    """Read and prepare what is verified on, before anything is exported.

    Args:
        source: The original, with the configuration that is verified on.
        format: The format that will be written.
        split: ``train``, ``validation`` or ``test``.
        device: Where the original decodes.

    Raises:
        UserError: The corpus cannot be read, or the model or the runtime cannot decode as the configuration says.
    """
    family, arguments = source.family, source.arguments
    conditions = resolve_conditions(family, arguments, device, source.model.dtype)
    format.check_decoding(dict(conditions.generation))
    if format.greedy and family.name != "ctc":
        conditions = replace(conditions, generation={**conditions.generation, **GREEDY})
    family.check_decoding(bare_model(source.model), conditions.generation)
    encoder = family.make_encoder(source.processor, source.model.config, arguments)
    splits = build_splits(arguments.data, seed=arguments.experiment.seed, names=(split,))
    clips = prepare_splits(splits, encoder, arguments, trained_on=())[split]
    split_batches(
        clips, collator_for(family, source.processor, bare_model(source.model), conditions.choice()), conditions
    )
    if arguments.evaluation.slices:
        clip_columns(clips, arguments.evaluation.slices)
    return Verification(clips, splits[split].drops, conditions, device)


def verify(
    source: Source, format: Format, folder: Path, found: Verification, margin: float, quantization: str
) -> dict[str, Any]:
    """Score the original and the exported model on a split, and write ``folder/verify.json``.

    Args:
        source: The original, unmerged, with the configuration that is verified on.
        format: The format that was written.
        folder: The export.
        found: From :func:`read_verification`.
        margin: Most that the WER may have grown, a fraction: the upper end of the difference's interval decides.
        quantization: What the exported weights are stored in.

    Returns:
        What verify.json holds; rates are fractions.

    Raises:
        UserError: Nothing can be decoded.
    """
    source.model.to(found.device)
    before = _score(source, source.family, folder / ORIGINAL, found)
    runtime = format.open(folder, source)
    family = replace(source.family, decode=partial(decode_instead, source.family, runtime))
    after = _score(source, family, folder / EXPORTED, found)
    results = {
        "format": format.name,
        "quantization": quantization,
        "runtime": format.version(),
        "split": found.clips.name,
        "normalizer": before["normalizer"],
        "num_utterances": before["num_utterances"],
        "num_words": before["num_words"],
        "original": {name: before[name] for name in (*RATES, *SPEED)}
        | {"device": found.device.type, "dtype": before["dtype"]},
        "exported": {name: after[name] for name in (*RATES, *SPEED)}
        | {"device": "cpu", "dtype": format.computed(runtime)},
        **_difference(folder, margin, source.arguments.experiment.seed),
        **{name: value for name, value in found.conditions.as_dict().items() if name != "dtype"},
        "skipped": before["skipped"],
    }
    replace_file(folder / RESULTS, json.dumps(results, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    return results


def _score(source: Source, family: Any, folder: Path, found: Verification) -> dict[str, Any]:
    """Decode and score one side."""
    return score_split(
        source.model,
        family,
        source.processor,
        found.clips,
        found.conditions,
        source.arguments,
        folder,
        left_out=found.left_out,
    )


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
