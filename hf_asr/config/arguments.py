"""One dataclass per section of a configuration; every field says what it is for, once, here.

The help texts, choices and bounds in the fields' metadata are what :mod:`hf_asr.config.checks` holds a YAML to and
what docs/configuration.md is made from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_asr.config.adapting import CtcArguments, FreezeArguments, HeadArguments, PeftArguments
from hf_asr.config.augmentations import AugmentArguments
from hf_asr.config.hub import HubArguments
from hf_asr.config.options import (
    AT_LEAST_0,
    AT_LEAST_1,
    FINITE,
    POSITIVE,
    POSITIVE_FINITE,
    SHARE,
    Bounds,
    option,
    required,
)

TEXT_PIPELINES = ("none", "basic", "whisper_english", "whisper_basic", "russian", "gigaspeech", "sentence_case")
METRICS = ("wer", "cer", "mer", "wil", "ser", "bleu")
USUAL_METRICS = ("wer", "cer", "mer", "wil")
CORPORA = ("common_voice", "gigaspeech", "manifest", "audiofolder", "hub", "synthetic", "webdataset")
WINDOWS = ("full", "thinned", "clip")
DTYPES = ("auto", "float32", "bfloat16", "float16")
# "kernels-community/..." names are left out: they load code from the Hub, and nothing here executes remote code.
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")
LONG_FORMS = ("sequential", "chunked")
SPLITS = ("train", "validation", "test")
COLUMNS = ("id", "audio", "text", "speaker", "duration", "label", "split", "start", "end")
# What another corpus, as a split or as one of data.sources, may say for itself. The section's other keys hold for all
# clips alike: one set there would be read by nothing.
CORPUS_KEYS = (
    "corpus",
    "path",
    "transcripts",
    "name",
    "subset",
    "language",
    "splits",
    "columns",
    "filter_votes",
    "min_seconds",
    "max_seconds",
)


@dataclass
class ExperimentArguments:
    """The run: its name, its folder, its seed."""

    name: str = required("Name of the run, and of its folder below `output_dir`.", check="folder_name")
    output_dir: str = option("runs", "Folder that holds the run folders.")
    seed: int = option(42, "Seed of weights, order of examples and adapters.", bounds=Bounds(0, 2**32 - 1))
    description: str = option("", "One sentence for the model card.")
    tags: list[str] = field(default_factory=list, metadata={"help": "Tags for the model card and the trackers."})


@dataclass
class ModelArguments:
    """The model that is fine-tuned."""

    name_or_path: str = required(
        "Hub id, local folder, or `config:NAME` (such as `config:whisper-tiny`): that architecture with random "
        "weights, a function of `experiment.seed` and NAME."
    )
    family: str | None = option(None, "Model family; by default told by the checkpoint's config.")
    revision: str | None = option(None, "Branch, tag or commit on the Hub.")
    tokenizer_name_or_path: str | None = option(
        None, "Where the tokenizer comes from when not from the model; `config:NAME` needs one."
    )
    language_token: str | None = option(
        None,
        "Language whose token stands in when the checkpoint has none for `data.language` (then `en` by default).",
    )
    dtype: str = option(
        "auto",
        "Type of the loaded weights; `auto` is float32: half-precision weights do not train.",
        choices=DTYPES,
    )
    quantization: str = option(
        "none", "Store the frozen base in 8 or 4 bits (bitsandbytes); needs adapters.", choices=("none", "8bit", "4bit")
    )
    double_quant: bool = option(True, "Quantise the scales of a 4-bit base as well.")
    compute_dtype: str = option(
        "auto", "Type in which a quantised base computes; `auto` is bfloat16 where the device has it.", choices=DTYPES
    )
    adapter_language: str | None = option(
        None, "Language adapter of an MMS checkpoint, as ISO 639-3, such as `rus`; new ones are trained from random."
    )
    attn_implementation: str = option("sdpa", "How attention is computed.", choices=ATTENTION)
    window: str = option(
        "full",
        "How much of the encoder's window a clip keeps: all of it, the silence behind it thinned, or the clip alone.",
        choices=WINDOWS,
    )
    window_keep_seconds: float = option(0.5, "Silence behind a clip that a thinned window keeps whole.", bounds=FINITE)
    window_stride: int = option(
        10, "Of the silence behind that, a thinned window keeps one of how many positions.", bounds=AT_LEAST_1
    )
    window_run: int = option(10, "Neighbours among them that it keeps together.", bounds=AT_LEAST_1)
    window_mix: float = option(
        0.0, "Share of the training batches that keep the full window with `thinned` or `clip`.", bounds=SHARE
    )
    dropout: float = option(0.0, "Dropout of the layers' outputs.", bounds=SHARE)
    attention_dropout: float = option(0.0, "Dropout of the attention weights.", bounds=SHARE)
    activation_dropout: float = option(0.0, "Dropout inside the feed-forward layers.", bounds=SHARE)
    layerdrop: float = option(0.0, "Probability of leaving out a whole layer, in encoder and decoder.", bounds=SHARE)


@dataclass
class DataArguments:
    """The corpus, its splits, and what happens to a clip before the features."""

    corpus: str = option("", "What kind of corpus is read; required unless `sources` is given.", choices=CORPORA)
    path: str | None = option(
        None,
        "Release folder or archive (common_voice), folder (gigaspeech, audiofolder), CSV, TSV or JSONL (manifest), "
        "folder or Parquet file (hub), where the speech is written (synthetic).",
    )
    transcripts: str | None = option(
        None,
        "Transcripts kept apart from the audio: TSVs or a folder of them (common_voice), GigaSpeech.json, a manifest.",
    )
    name: str | None = option(
        None, "Hub id (ORG/NAME) or folder of a data set (hub, gigaspeech); clean or shifted voices (synthetic)."
    )
    subset: str | None = option(None, "Its configuration (hub), or what train is: XS, S, M, L or XL (gigaspeech).")
    language: str | None = option(
        None, 'BCP-47 tag of the speech, such as `ru`, `zh-CN`, `yue`; quote `"no"` (Norwegian).', check="language"
    )
    task: str = option("transcribe", "What the decoder writes.", choices=("transcribe", "translate"))
    splits: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "What train, validation and test are; see below.", "check": "splits"}
    )
    columns: dict[str, str] = field(
        default_factory=dict,
        metadata={"help": f"The corpus's own names of the columns {', '.join(COLUMNS)}.", "check": "columns"},
    )
    sources: list[dict[str, Any]] | None = field(
        default=None,
        metadata={
            "help": "Corpora to mix, each with a `weight`, in place of `corpus` and `path`; see below.",
            "check": "sources",
        },
    )
    text_pipeline: str = option("none", "Text pipeline of the labels.", choices=TEXT_PIPELINES)
    filter_votes: bool = option(True, "Keep only clips with more up_votes than down_votes (Common Voice).")
    min_seconds: float = option(0.3, "Shorter clips are left out, counted and named.", bounds=AT_LEAST_0)
    max_seconds: float = option(30.0, "Longer clips are left out, counted and named.", bounds=POSITIVE)
    limit: dict[str, int] = field(
        default_factory=dict,
        metadata={
            "help": "How many clips of train, validation and test are used: the first ones that pass the filters.",
            "check": "limit",
        },
    )
    streaming: bool = option(
        False,
        "Read the training split as a stream, without preparing anything. Shards of another machine that do not tell "
        "their clips need `training.max_steps`.",
    )
    resume: str = option(
        "exact",
        "A stream of shards is not resumed on another number of processes; with `approximate` it is: its epoch begins "
        "anew, and the log says what comes twice.",
        choices=("exact", "approximate"),
    )
    shard_cache_gb: float = option(
        50.0, "Most disk that the shards of a stream may take below `$HF_ASR_CACHE`, in GB.", bounds=POSITIVE
    )
    shuffle_buffer: int = option(
        1000,
        "Clips among which a stream is shuffled; 0 or 1 keeps the corpus's order, as "
        "`training.train_sampling_strategy: sequential` does.",
        bounds=AT_LEAST_0,
    )
    on_bad_clip: str = option("skip", "A broken clip is skipped and named, or ends the run.", choices=("skip", "raise"))
    batch_seconds: float | None = option(
        None,
        "Batches of clips of like length, of at most so many seconds with their padding, in place of "
        "`training.per_device_train_batch_size`; of the two, the one that is given later holds.",
        bounds=POSITIVE_FINITE,
    )
    pack: bool = option(
        False, "Join short training clips of a Whisper to windows of 30 s; batch sizes then count windows."
    )
    pack_share: float = option(
        0.8,
        "Share of the training windows that hold several clips; the others hold one, as decoding does.",
        bounds=Bounds(0, 1),
    )
    pack_speakers: str = option(
        "same", "Whose clips share a window: one speaker's, or any once a speaker has no more.", choices=("same", "any")
    )
    pack_timestamps: bool = option(True, "The texts of a window stand between the times at which they begin and end.")
    drop_suspicious: float | None = option(
        None,
        "Training clips whose transcript the untouched model contradicts with a CER above this are left out, counted "
        "and listed.",
        bounds=POSITIVE,
    )
    level: str = option("none", "Levelling of the waveform.", choices=("none", "peak", "rms"))
    trim_silence: bool = option(False, "Cut silence off both ends.")
    num_workers: int | str = option(
        "auto",
        "Processes that load batches; `auto` is 0 on a CPU.",
        choices=("auto",),
        bounds=AT_LEAST_0,
    )
    prefetch_factor: int = option(4, "Batches each of those keeps ready.", bounds=AT_LEAST_1)


@dataclass
class SourceKeys:
    """What a source of data.sources says beside the data section's keys."""

    weight: float | None = option(
        None,
        "Its share of train against the other sources' weights; without weights every clip is used once an epoch.",
        bounds=POSITIVE,
    )


@dataclass
class FeatureArguments:
    """Log-mel features: cached on disk or computed on the fly."""

    cache: bool = option(True, "Compute features once and keep them; `false` computes them for every epoch.")
    cache_dir: str | None = option(
        None, "Folder of the cache; by default `$HF_ASR_CACHE`, else `~/.cache/hf_asr/features`."
    )
    store_dtype: str = option("float16", "Type of the stored features.", choices=("float16", "float32"))
    num_proc: int | str = option(
        "auto",
        "Processes that compute features; `auto` is one per core, fewer for few clips.",
        choices=("auto",),
        bounds=AT_LEAST_1,
    )
    device: str = option(
        "cpu",
        "Where the cache's log-mel spectrograms are computed; `auto` takes a GPU where there is one, for many clips "
        "at once, and `num_proc` threads decode.",
        choices=("cpu", "auto"),
    )
    bank: str = option(
        "off",
        "Keep a frozen encoder's states (of a Whisper or a classifier) on disk and reuse them every epoch; `auto` does "
        "so where nothing can change them and they fit.",
        choices=("off", "auto", "on"),
    )
    bank_max_gb: float = option(50.0, "Most disk the bank may take, in GB.", bounds=POSITIVE)


@dataclass
class TrainingKeys:
    """Our own keys of the training section, beside the names of Seq2SeqTrainingArguments; read from its mapping."""

    scheduler: str | dict[str, Any] = field(
        default="linear",
        metadata={
            "help": "Course of the learning rate: a name, or a mapping of `name` and what it takes; see below.",
            "check": "scheduler",
        },
    )
    early_stopping_patience: int = option(
        3, "Validations without a better result after which training ends; 0 turns it off.", bounds=AT_LEAST_0
    )
    ema: float | str = option(
        "off",
        "Decay of an exponential moving average of the weights, such as 0.999; validation, test and `best_checkpoint` "
        "then use the average.",
        choices=("off",),
        bounds=SHARE,
    )
    chunked_loss: bool = option(
        True,
        "Work the cross-entropy out inside the model's head, some tokens at a time: the same loss and gradients, and "
        "all logits are never held.",
    )
    log_sample_ids: bool = option(False, "Write the ids of every step to `sample_ids.jsonl`.")
    resume_from_checkpoint: bool | str = option(
        False, "Go on with the run in the run folder from its newest whole checkpoint, or from the one at this path."
    )


@dataclass
class EvaluationArguments:
    """How hypotheses are made and scored: in validation, for the baseline and for the test."""

    normalizer: str = option("basic", "Text pipeline of the scoring side.", choices=TEXT_PIPELINES)
    metrics: list[str] = field(
        default_factory=lambda: list(USUAL_METRICS), metadata={"help": "Metrics that are reported.", "check": "metrics"}
    )
    batch_size: int = option(8, "Clips decoded together, on each device; clips of like length.", bounds=AT_LEAST_1)
    batch_seconds: float | None = option(
        None,
        "Clips decoded together, so many seconds of them with their padding, in place of `batch_size`; of the two, the "
        "one that is given later holds.",
        bounds=POSITIVE_FINITE,
    )
    window: str = option("full", "As `model.window`, for decoding.", choices=WINDOWS)
    dtype: str = option(
        "auto",
        "Type in which it decodes; `auto` is float32 on a CPU, bfloat16 where the device has it.",
        choices=DTYPES,
    )
    bank: bool = option(
        True,
        "Where training reads a bank (`features.bank`), decode validation from it as well; baseline and test never.",
    )
    baseline: bool = option(True, "Score the untouched model on the test clips first.")
    slices: list[Any] = field(
        default_factory=list,
        metadata={
            "help": "Columns that errors are told apart by: `duration`, `reference_length`, `speaking_rate`, `snr`, "
            "`speaker` or any of the corpus; `{duration: [5, 15]}` gives bounds. Empty: the usual ones that it has.",
            "check": "slices",
        },
    )
    generation: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Names of GenerationConfig; see below.", "check": "generation"}
    )
    also: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "More sets that are scored before and after: a name to the data section's keys of another corpus, "
            "or to `builtin`, clips in which nobody speaks; see docs/guardrails.md."
        },
    )
    also_limits: dict[str, float] = field(
        default_factory=dict,
        metadata={
            "help": "By how many points a set of `also` may become worse, of WER (of CER in languages without spaces; "
            "of clips with text for `builtin`), before the run fails with exit code 1."
        },
    )
    long_form: str | None = option(
        None,
        "Decode whole recordings in `hf-asr evaluate`: moving on by timestamps, or in windows cut at quiet points.",
        choices=LONG_FORMS,
    )
    prompt: str | None = option(None, "Text that a Whisper is told to have come before a recording (`long_form`).")
    condition_on_previous_text: bool = option(
        False, "Tell a Whisper what it wrote before each window (`long_form: sequential`)."
    )


@dataclass
class Arguments:
    """A whole configuration.

    Attributes:
        training: Only what the user gave: names of ``Seq2SeqTrainingArguments`` and our own ``scheduler``,
            ``early_stopping_patience``, ``log_sample_ids``; ``resume_from_checkpoint`` may be true or a path.
    """

    experiment: ExperimentArguments
    model: ModelArguments
    data: DataArguments = field(default_factory=DataArguments)
    features: FeatureArguments = field(default_factory=FeatureArguments)
    augment: AugmentArguments = field(default_factory=AugmentArguments)
    freeze: FreezeArguments = field(default_factory=FreezeArguments)
    peft: PeftArguments = field(default_factory=PeftArguments)
    ctc: CtcArguments = field(default_factory=CtcArguments)
    head: HeadArguments = field(default_factory=HeadArguments)
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: EvaluationArguments = field(default_factory=EvaluationArguments)
    hub: HubArguments = field(default_factory=HubArguments)

    @property
    def run_dir(self) -> Path:
        """Folder of the run: experiment.output_dir / experiment.name."""
        return Path(self.experiment.output_dir) / self.experiment.name


SECTIONS: dict[str, type[Any]] = {
    "experiment": ExperimentArguments,
    "model": ModelArguments,
    "data": DataArguments,
    "features": FeatureArguments,
    "augment": AugmentArguments,
    "freeze": FreezeArguments,
    "peft": PeftArguments,
    "ctc": CtcArguments,
    "head": HeadArguments,
    "evaluation": EvaluationArguments,
    "hub": HubArguments,
}
