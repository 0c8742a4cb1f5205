"""What of a run is pushed to the Hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hf_asr.config.options import option


@dataclass
class HubArguments:
    """What is pushed to the Hub, and under which name."""

    repo: str | None = option(None, "ORG/NAME of the model repository.", check="repo")
    private: bool | None = option(
        None, "Make the repository private; not given: private where a corpus lies on this machine, else public."
    )
    push: bool = option(
        False, "Push the model, its card, results and curves; while offline write them to `to_push/` instead."
    )
    push_every: str = option(
        "end",
        "When to push: once, at the `end`; or also the weights of every `save`, beside the training.",
        choices=("end", "save"),
    )
    push_features: bool = option(False, "Push the feature caches as Parquet shards, too, to a data set of their own.")
    features_repo: str | None = option(
        None, "ORG/NAME of that data set; not given: `repo` with `-features` behind it.", check="repo"
    )
    push_report: bool | None = option(
        None, "Push the report page with texts and voices of clips; not given: to a private repository only."
    )
    license: str | None = option(None, "Licence identifier for the card, such as `apache-2.0`.")
    card: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "`title`, `description` and `limits` are texts of the model card; all else is its metadata."},
    )
