"""How a model is adapted: what is frozen, adapters, and the heads of CTC models and classifiers."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_asr.config.options import AT_LEAST_0, AT_LEAST_1, POSITIVE, SHARE, option


@dataclass
class FreezeArguments:
    """What is not trained, and learning rates of single groups."""

    groups: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Groups of the family (such as `encoder`, `embeddings`), or globs over parameter names, that stay "
            "frozen."
        },
    )
    last_n_encoder_layers: int | None = option(
        None, "Of the encoder, train only this many last layers.", bounds=AT_LEAST_0
    )
    unfreeze: dict[int, list[str]] = field(
        default_factory=dict,
        metadata={
            "help": "Epoch (from 0) to the frozen groups that are trained from there on, such as `{1: [encoder]}`; "
            "they warm up anew.",
            "check": "unfreeze",
        },
    )
    learning_rates: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "help": "Learning rate by group, in place of `training.learning_rate`.",
            "check": "learning_rates",
        },
    )


@dataclass
class PeftArguments:
    """Adapters in place of full fine-tuning."""

    method: str = option("none", "Kind of adapter.", choices=("none", "lora", "dora", "adalora"))
    r: int = option(32, "Rank of the adapter matrices.", bounds=AT_LEAST_1)
    alpha: float = option(64, "Scale of the update, divided by `r`.", bounds=POSITIVE)
    dropout: float = option(0.05, "Dropout before the adapter.", bounds=SHARE)
    target_modules: list[str] | None = field(
        default=None, metadata={"help": "Names of the adapted modules; by default the family's."}
    )
    merge: bool = option(
        True, "Add the adapters into the weights of `best_checkpoint`; `false` keeps them beside it, to load with peft."
    )


@dataclass
class CtcArguments:
    """CTC models: their characters, and how their frames become text."""

    vocabulary: str = option(
        "auto",
        "Characters of the head: `checkpoint` keeps its own, `train` makes a new head of the training texts', `extend` "
        "adds those that are missing, `auto` is `checkpoint` where it has some, else `train`; or a vocab.json.",
    )
    zero_infinity: bool = option(True, "A clip without any alignment counts 0 in the loss in place of infinity.")
    mask_time: float = option(
        0.0, "SpecAugment inside the model while it trains: share of its frames that are masked.", bounds=SHARE
    )
    mask_feature: float = option(0.0, "The same, share of its features.", bounds=SHARE)
    beam: int = option(1, "Width of the beam; 1 is greedy.", bounds=AT_LEAST_1)
    lm: str | None = option(None, "ARPA or KenLM file of a word n-gram model, for beams; needs the extra `lm`.")
    lm_weight: float = option(0.5, "Weight of the language model (alpha).", bounds=AT_LEAST_0)
    word_score: float = option(1.5, "Added for every word of a beam (beta).")


@dataclass
class HeadArguments:
    """What a classifier puts on the encoder's states."""

    task: str = option("classification", "What `data.columns.label` holds.", choices=("classification", "regression"))
    layers: str = option(
        "weighted", "States of the last layer, or a softmax-weighted sum of all layers'.", choices=("last", "weighted")
    )
    scales: list[int] = field(
        default_factory=lambda: [1],
        metadata={
            "help": "Frames that are averaged into one, a projection for each, joined and fused.",
            "check": "scales",
        },
    )
    blocks: int = option(0, "Transformer blocks of the head's own between fusion and pooling.", bounds=AT_LEAST_0)
    stochastic_depth: float = option(0.0, "Probability of leaving out a clip's last such block.", bounds=SHARE)
    pooling: str = option(
        "statistics",
        "How frames become one vector: mean, mean and standard deviation, attention with a learnt query, or with one "
        "made of the clip's mean.",
        choices=("mean", "statistics", "attention", "context_attention"),
    )
    dropout: float | str = option(
        "rising",
        "`rising` is 0.1, 0.2, 0.3 over the head's layers; a number is the same for all.",
        choices=("rising",),
        bounds=SHARE,
    )
    norm: str = option("layer", "Normalisation between the head's layers.", choices=("layer", "batch", "none"))
    class_weights: str = option(
        "none", "`balanced` weighs a class by the inverse of its share of train.", choices=("none", "balanced")
    )
