"""What every metric tells ``evaluate`` about its inputs: texts beside texts."""

from __future__ import annotations

import datasets
import evaluate


def describe(description: str, usage: str) -> evaluate.MetricInfo:
    """Return the description of a metric that takes a prediction and a reference, texts both, an utterance."""
    texts = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
    return evaluate.MetricInfo(
        description=description, citation="", inputs_description=usage, features=datasets.Features(texts)
    )
