"""evaluation.batch_seconds went into the field before it, the bank's, and clips were batched by number."""

from __future__ import annotations

from hf_asr.config.arguments import Arguments, EvaluationArguments, ExperimentArguments, ModelArguments
from hf_asr.inference.generate import resolve_conditions
from hf_asr.models import FAMILIES


def test_batch_seconds_reach_decoding() -> None:
    evaluation = EvaluationArguments(batch_seconds=60.0)
    arguments = Arguments(ExperimentArguments("x"), ModelArguments("m"), evaluation=evaluation)
    conditions = resolve_conditions(FAMILIES["whisper"], arguments, "cpu")
    assert (conditions.batch_seconds, conditions.bank) == (60.0, False)
