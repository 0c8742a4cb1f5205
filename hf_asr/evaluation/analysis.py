"""test_detailed_analysis.json: what is wrong in a scored set, where, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_asr.errors import UserError
from hf_asr.evaluation.columns import Clips
from hf_asr.evaluation.confusions import confusions, edges, worst_utterances
from hf_asr.evaluation.findings import findings
from hf_asr.evaluation.intervals import LEVEL, METHOD, SAMPLES, Rate
from hf_asr.evaluation.slices import ScoredSet, slice_all, worst_speakers
from hf_asr.evaluation.texts import ScoredTexts
from hf_asr.evaluation.wording import compare_normalized, names, numbers, writing

ANALYSIS = "test_detailed_analysis.json"
SCHEMA = Path(__file__).with_name("detailed_analysis.schema.json")
SCHEMA_VERSION = 1
MOST_WORST = 100


@dataclass(frozen=True, slots=True)
class About:
    """What an analysis is told beside the texts.

    Attributes:
        model: Name of the model; None where unknown.
        split: Name of the split.
        language: Its language tag; None where unknown.
        seed: Seed of the intervals.
        rate: The rate that slices and the order of utterances go by.
        slices: ``evaluation.slices``; empty for the usual columns that are known.
    """

    model: str | None = None
    split: str = "test"
    language: str | None = None
    seed: int = 42
    rate: Rate = "wer"
    slices: Sequence[Any] = field(default_factory=tuple)


def analyse(texts: ScoredTexts, clips: Clips, summary: Mapping[str, Any], about: About) -> dict[str, Any]:
    """Return what test_detailed_analysis.json holds; docs/outputs.md says what each key is.

    Args:
        texts: The scored set.
        clips: What is known of its utterances.
        summary: What test_results.json holds.
        about: Everything else.

    Raises:
        UserError: A column of ``about.slices`` is missing.
    """
    scored = ScoredSet(texts.counts, clips, about.rate, about.seed)
    by = summary["wer_interval_by"]
    return {
        "schema_version": SCHEMA_VERSION,
        "model": about.model,
        "split": about.split,
        "language": about.language,
        "normalizer": texts.counts.normalizer,
        "seed": about.seed,
        "rate": about.rate,
        "interval": {"method": METHOD, "level": LEVEL, "samples": SAMPLES, "seed": about.seed, "by": by},
        "overall": {name: summary[name] for name in OVERALL if name in summary},
        "normalization": compare_normalized(texts, texts.raw),
        "writing": writing(texts.raw),
        "words": {"numbers": numbers(texts), "names": names(texts)},
        **slice_all(scored, about.slices),
        "speakers": worst_speakers(scored),
        "confusions": confusions(texts),
        "edges": edges(texts),
        "findings": findings(texts),
        "worst_utterances": worst_utterances(texts, clips.durations, clips.speakers, about.rate == "cer", MOST_WORST),
    }


# Keys of test_results.json that "overall" repeats.
OVERALL = (
    *("wer", "cer", "mer", "wil", "ser", "bleu", "bleu_signature", "raw_wer", "raw_cer"),
    *("substitutions", "deletions", "insertions", "hits", "num_utterances", "num_words", "num_empty_references"),
    *("wer_interval", "cer_interval", "wer_interval_by", "wer_interval_by_speaker", "wer_interval_by_utterance"),
    *("seconds_of_audio", "rtfx"),
)


def read_analysis(directory: str | Path) -> dict[str, Any]:
    """Read ``test_detailed_analysis.json`` of a folder.

    Raises:
        UserError: There is none, or it is not whole.
    """
    path = Path(directory) / ANALYSIS
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"expected {ANALYSIS} in {directory}, found none; score that split again with --detailed-analysis"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"expected JSON in {path}, found something else ({error}); score that split again") from error
    return found
