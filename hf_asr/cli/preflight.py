"""What `hf-asr doctor` looks at of a run: machine, the model's text side, corpus, other sets. No weights are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import datasets
import torch
from transformers import PreTrainedConfig

from hf_asr.cli.machine import check_disk, check_machine, check_memory, check_model_reachable
from hf_asr.cli.preflight_also import check_other_sets
from hf_asr.cli.preflight_sample import Sample, TextSide, check_sample_of_audio, transcripts_of
from hf_asr.config.arguments import Arguments
from hf_asr.data import checks
from hf_asr.data.checks import Check, Transcript
from hf_asr.data.corpora import Split, build_splits
from hf_asr.data.stream import Stream
from hf_asr.errors import UserError
from hf_asr.features.augmented import caches_train
from hf_asr.features.cache import cache_dir, forecast_bytes
from hf_asr.features.extract import ClipEncoder, FrontEnd, Tokenizer, TokenLabels
from hf_asr.models import get_family
from hf_asr.models.classifier import check_classes, classifier_arguments
from hf_asr.models.classifier_targets import ClassLabels
from hf_asr.models.ctc_processor import CtcLabels, states_needed
from hf_asr.models.family import ModelFamily
from hf_asr.training.arguments import DEFAULTS, needed_splits, num_workers
from hf_asr.training.batches import clip_lengths

ADAM_STATES = 2


def check_run(arguments: Arguments) -> Iterator[Check]:
    """Yield the checks of machine, model, corpus and other sets; one that cannot be read is a finding."""
    workers = arguments.data.num_workers
    yield from check_machine(
        arguments.run_dir,
        dtype=wanted_dtype(arguments),
        on_cpu=is_on_cpu(arguments),
        num_workers=0 if isinstance(workers, str) else workers,
    )
    yield check_model_reachable(arguments.model.name_or_path, arguments.model.revision)
    splits, unreadable = read_splits(arguments)
    text_side = None
    try:
        text_side = load_text_side(arguments, splits.get("train"))
        yield from (Check("language", ok=True, found=note) for note in text_side.notes)
        yield from check_room(arguments, text_side)
    except UserError as error:
        yield Check("model", ok=False, expected="a model that can be trained", found=str(error), do="As it says.")
    if unreadable:
        yield Check("data", ok=False, expected="splits that can be read", found=unreadable, do="As it says.")
    else:
        yield from check_data(arguments, splits, text_side)
    yield from check_other_sets(arguments, text_side)


def read_splits(arguments: Arguments) -> tuple[dict[str, Split], str]:
    """Return the splits that a run reads, or none and what is wrong with them."""
    try:
        return build_splits(arguments.data, seed=arguments.experiment.seed, names=needed_splits(arguments)), ""
    except UserError as error:
        return {}, str(error)


def wanted_dtype(arguments: Arguments) -> str:
    """Return the dtype that training computes in."""
    if arguments.training.get("bf16"):
        return "bfloat16"
    return "float16" if arguments.training.get("fp16") else "float32"


def is_on_cpu(arguments: Arguments) -> bool:
    """Tell whether training is told to leave an accelerator alone."""
    return bool(arguments.training.get("use_cpu"))


def load_text_side(arguments: Arguments, train: Split | None) -> TextSide:
    """Load what makes labels, and the model's configuration; a vocabulary may come from the training split.

    Raises:
        UserError: The model cannot be found, or does not serve this language.
    """
    if "label" in arguments.data.columns:  # what recipes/finetune_classifier.py learns
        arguments = classifier_arguments(arguments)
    family = get_family(arguments.model)
    processor = family.load_processor(arguments, train.rows if train else None)
    config = family.load_config(arguments, processor)
    encoder = family.make_encoder(processor, config, arguments)
    return TextSide(family, config, encoder, family.notes(arguments, processor))


def check_room(arguments: Arguments, text_side: TextSide) -> Iterator[Check]:
    """Forecast the memory and the disk that weights and checkpoints take at most, everything being trained."""
    weights = 4 * num_parameters(text_side.family, text_side.config)
    kept = arguments.training.get("save_total_limit", DEFAULTS["save_total_limit"]) or 1
    states = weights * (2 + ADAM_STATES)
    yield check_memory(states, "weights, gradients and AdamW's states", on_cpu=is_on_cpu(arguments))
    yield check_disk(arguments.run_dir, (kept + 1) * weights * (1 + ADAM_STATES) + weights, "checkpoints")


def num_parameters(family: ModelFamily, config: PreTrainedConfig) -> int:
    """Count a model's parameters without making its weights."""
    with torch.device("meta"):
        return int(family.build(config).num_parameters())


def check_data(arguments: Arguments, splits: Mapping[str, Split], text_side: TextSide | None) -> Iterator[Check]:
    """Yield the checks of a corpus; those of labels only where the model could be loaded.

    Args:
        arguments: The whole configuration.
        splits: Its splits.
        text_side: The model's; None without a model.
    """
    samples = [Sample(split) for split in splits.values()]
    for sample in samples:
        yield checks.check_split(sample.split.name, sample.size, sample.split.seconds, sample.drops)
        if isinstance(sample.split.rows, Stream):
            yield check_dealing(arguments, sample.split.rows)
    yield from check_leaks(samples)
    yield check_sample_of_audio(samples)
    if text_side is not None:
        yield from check_batch_lengths(arguments, splits, text_side)
        yield from check_cache(arguments, samples, text_side.encoder)
        if isinstance(text_side.encoder.labeller, ClassLabels):
            yield from check_label_classes(splits, text_side.encoder.labeller)
        if not text_side.encoder.labeller.writes_text:
            return
    transcripts = [item for sample in samples for item in transcripts_of(sample, arguments)]
    yield count_texts(samples, len(transcripts))
    yield checks.check_empty(transcripts)
    yield checks.check_speaking_rate(transcripts)
    yield checks.check_script(transcripts)
    if text_side is not None:
        if isinstance(text_side.encoder.labeller, TokenLabels):
            yield from check_labels(transcripts, text_side.encoder.labeller)
        if isinstance(text_side.encoder.labeller, CtcLabels):
            yield from check_ctc_labels(transcripts, text_side.encoder.labeller, text_side.encoder.front_end)


def check_dealing(arguments: Arguments, stream: Stream) -> Check:
    """Say how many shards a stream has for this machine's GPUs, or for the processes that a launcher started."""
    on_gpu = torch.cuda.is_available() and not is_on_cpu(arguments)
    processes = int(os.environ.get("WORLD_SIZE", "0")) or (torch.cuda.device_count() if on_gpu else 1)
    try:
        stream.check_readers(processes)
    except UserError as error:
        return Check("stream", ok=False, expected="a shard a process", found=str(error), do="As it says.")
    return Check("stream", ok=True, found=stream.dealing(processes, num_workers(arguments, processes, on_gpu)))


def check_label_classes(splits: Mapping[str, Split], labeller: ClassLabels) -> Iterator[Check]:
    """Say which classes there are; yield a finding for a split that has others."""
    yield Check("classes", ok=True, found=", ".join(labeller.classes))
    for name, split in splits.items():
        try:
            check_classes({name: split}, labeller.classes)
        except UserError as error:
            yield Check("classes", ok=False, expected="the classes of train", found=str(error), do="As it says.")


def check_leaks(samples: Sequence[Sample]) -> Iterator[Check]:
    """Yield a finding for everything that two splits share; a stream is not looked into."""
    lines = [line for sample in samples for line in sample.split.warnings]
    if not lines:
        seen = [sample.split.name for sample in samples if sample.size is not None]
        yield Check("leaks", ok=True, found=f"none between {', '.join(seen)}")
    for line in lines:
        yield Check(
            "leaks",
            ok=False,
            found=line,
            expected="splits that share neither clips nor sentences nor speakers",
            do="Change data.splits so that none is in two, or WER flatters the model.",
        )


def count_texts(samples: Sequence[Sample], looked_at: int) -> Check:
    """Say how many of the texts the checks below looked at."""
    sizes = [sample.size for sample in samples if sample.size is not None]
    stream = " and the beginning of the stream" if len(sizes) < len(samples) else ""
    return Check("texts", ok=True, found=f"{looked_at:,} looked at, of {sum(sizes):,}{stream}")


def check_labels(transcripts: Sequence[Transcript], labeller: TokenLabels) -> Iterator[Check]:
    """Yield what becomes of the texts as labels: length, the way back, characters."""
    labels = [labeller.encode(item.text) for item in transcripts]
    places = [item.place for item in transcripts]
    yield checks.check_label_lengths(places, [len(ids) for ids in labels], labeller.max_tokens)
    written = [ids[len(labeller.prefix) : -1] for ids in labels]
    yield checks.check_round_trip(transcripts, [str(labeller.tokenizer.decode(ids)) for ids in written])
    yield checks.check_characters(transcripts, Spelling(labeller.tokenizer))


def check_ctc_labels(transcripts: Sequence[Transcript], labeller: CtcLabels, front_end: FrontEnd) -> Iterator[Check]:
    """Yield what a CTC head makes of the texts: characters that it lacks, texts too long for their clips."""
    characters = checks.check_characters(transcripts, lambda text: labeller.read(labeller.encode(text)))
    yield replace(
        characters, do="Set ctc.vocabulary=extend, or choose a data.text_pipeline that writes them otherwise."
    )
    short = []
    for item in transcripts:
        needed = states_needed(labeller.encode(item.text))
        if item.duration and needed > (there := labeller.states(int(item.duration * front_end.frames_per_second))):
            short.append(f"{item.place}: {needed} needed, {there} there")
    yield Check(
        "labels against frames",
        ok=not short,
        found="every clip has frames enough" if not short else checks.name_some(short),
        expected="a frame for every character, and one between two that are alike",
        do="Nothing, if they are few: training leaves them out and names them. Else check whether texts fit.",
    )


def check_batch_lengths(arguments: Arguments, splits: Mapping[str, Split], text_side: TextSide) -> Iterator[Check]:
    """Yield a finding for batches of seconds that cannot hold a clip; a thinned window may need a little more."""
    data, evaluation, model = arguments.data, arguments.evaluation, arguments.model
    asked = {name: ("evaluation.batch_seconds", evaluation.batch_seconds, evaluation.window) for name in splits}
    asked["train"] = ("data.batch_seconds", data.batch_seconds, "full" if model.window_mix else model.window)
    for name, split in splits.items():
        key, seconds, window = asked[name]
        if seconds is None:
            continue
        whole = text_side.family.window_padder is not None and window == "full"
        lengths = clip_lengths(split, text_side.encoder)
        longest = text_side.encoder.front_end.longest_seconds if whole else max(lengths, default=0.0)
        yield Check(
            key,
            ok=seconds >= longest,
            found=f"{seconds:g} for {name}",
            expected=f"at least the longest clip of {name}, {longest:.2f} s (in a Whisper's full window all are)",
            do="Raise it, or leave long clips out with data.max_seconds.",
        )


class Spelling:
    """A tokenizer's way from a text to tokens and back, without special tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> str:
        """Return what is left of a text."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return str(self.tokenizer.decode(list(ids)))


def check_cache(arguments: Arguments, samples: Sequence[Sample], encoder: ClipEncoder) -> Iterator[Check]:
    """Forecast the feature cache's disk, when there will be one."""
    cached = [sample.split for sample in samples if sample.split.name != "train" or caches_train(arguments)]
    sizes = [(split.seconds or 0.0, len(split.rows)) for split in cached if isinstance(split.rows, datasets.Dataset)]
    if arguments.features.cache and sizes:
        needed = sum(forecast_bytes(seconds, size, encoder) for seconds, size in sizes)
        yield check_disk(cache_dir(arguments.features), needed, "the feature cache")
