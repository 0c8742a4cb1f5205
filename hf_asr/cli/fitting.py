"""`hf-asr doctor --fit-batch-seconds`: the largest data.batch_seconds with which a run fits into memory."""

from __future__ import annotations

from typing import Any

import datasets

from hf_asr.cli.machine import GIB, free_memory
from hf_asr.cli.preflight import is_on_cpu
from hf_asr.config.arguments import Arguments
from hf_asr.data.checks import Check, spread
from hf_asr.data.corpora import Split, build_splits
from hf_asr.data.packing import ClipSizes, join_neighbours
from hf_asr.errors import UserError
from hf_asr.features.extract import ClipEncoder
from hf_asr.features.lengths import padded_seconds
from hf_asr.features.packed import PackedTraining, packing_of
from hf_asr.models import get_family
from hf_asr.models.classifier import classifier_arguments
from hf_asr.models.classifier_bank import uses_bank
from hf_asr.training.adapters import make_trainable
from hf_asr.training.arguments import training_arguments
from hf_asr.training.bank import check_bank
from hf_asr.training.fitting import USABLE, Needs, WorstClip, largest_that_fits, worst_clips
from hf_asr.training.forecast import chunked_head_of, training_collator
from hf_asr.utterance import Seconds

# Texts that are made into labels to find the longest ones; 3 s.
MAX_TEXTS = 10_000


def check_batch_seconds(arguments: Arguments) -> Check:
    """Load the model as it will be trained, and search.

    Raises:
        UserError: The training split is a stream, whose lengths are not known, or joined clips are thinned, which are
            not batched by seconds.
    """
    if "label" in arguments.data.columns:
        arguments = classifier_arguments(arguments)
    split = build_splits(arguments.data, seed=arguments.experiment.seed, names=("train",))["train"]
    if not isinstance(split.rows, datasets.Dataset):
        raise UserError(
            "--fit-batch-seconds: expected a training split whose lengths are known, found data.streaming=true. Set "
            "training.per_device_train_batch_size in its place."
        )
    if arguments.data.pack and arguments.model.window != "full":
        raise UserError(
            f"--fit-batch-seconds: expected model.window full beside data.pack, found {arguments.model.window}. Set "
            "training.per_device_train_batch_size in its place."
        )
    whose, free, _ = free_memory(is_on_cpu(arguments))
    needs, padded = load_needs(arguments, split)
    limit, longest = int(USABLE * free), max(padded)
    most = int(sum(padded)) + 1
    found = largest_that_fits(needs, limit, least=int(-(-longest // 1)), most=most)
    how = "run" if needs.on_gpu else "forecast from one clip and two"
    if found is None:
        return Check(
            "batch_seconds",
            ok=False,
            expected=f"room for the longest clip ({longest:.1f} s, padded) in {limit / GIB:.2f} GiB of {whose}",
            found=f"{needs(int(-(-longest // 1))) / GIB:.2f} GiB needed",
            do="Take a smaller model or peft.method: lora, or leave long clips out with data.max_seconds.",
        )
    taken = needs(found) / GIB
    memory = f"{taken:.2f} of {limit / GIB:.2f} GiB ({whose}; worst batches, {how})"
    if found >= most:
        memory += "; all of train is one batch, take fewer for more steps"
    return Check("batch_seconds", ok=True, found=f"data.batch_seconds: {found}; {memory}")


def load_needs(arguments: Arguments, split: Split) -> tuple[Needs, list[float]]:
    """Load all that a training step needs; return it with the padded seconds of the training clips.

    Raises:
        UserError: The run cannot be trained as it is configured, or no clip is left.
    """
    training = training_arguments(arguments)
    family = get_family(arguments.model)
    processor = family.load_processor(arguments, split.rows if family.needs_train else None)
    loaded: Any = family.load_model(arguments, processor)
    encoder = family.make_encoder(processor, loaded.config, arguments)
    collate = training_collator(arguments, family, processor, loaded)
    uses_bank(arguments) if family.recipe == "finetune_classifier" else check_bank(loaded, family, arguments)
    model, _ = make_trainable(loaded, family, arguments.freeze, arguments.peft, arguments.experiment.seed)
    durations = split.rows["duration"][:]
    rows = split.rows.select([at for at, seconds in enumerate(durations) if not encoder.length_problem(seconds)])
    padded = padded_seconds(collate, rows["duration"][:])
    head = chunked_head_of(model, family, arguments.training)
    clips = clips_of(rows, padded, encoder, packing_of(encoder, arguments))
    size = encoder.front_end.feature_size
    return Needs(model, family.loss, collate, clips, size, training, head), padded


def clips_of(
    clips: datasets.Dataset, padded: list[float], encoder: ClipEncoder, packing: PackedTraining | None = None
) -> list[WorstClip]:
    """Return the clips of which the worst batches are full: the longest of all, and those with the most labels.

    Args:
        clips: Training clips whose lengths the model takes.
        padded: Their padded seconds.
        encoder: The family's; clips whose labels it does not take are left out, as in training.
        packing: How clips are joined; then it is windows that are returned.

    Raises:
        UserError: None is left.
    """
    longest = max(range(len(padded)), key=padded.__getitem__, default=0)
    places = sorted({*spread(len(padded), MAX_TEXTS), longest} & set(range(len(padded))))
    rows = clips.select(places)
    labels = [list(encoder.labeller(row)) for row in rows]
    rate = encoder.front_end.frames_per_second
    frames = [max(1, int(row["duration"] * rate)) for row in rows]
    problems = [encoder.labeller.problem(*each) for each in zip(rows, labels, frames, strict=True)]
    kept = [at for at, problem in enumerate(problems) if not problem]
    if not kept:
        found = problems[0] if problems else "no length that the model takes"
        raise UserError(f"train: expected clips to train on, found none left: {found}. Check data.path.")
    labels, seconds = [labels[at] for at in kept], [padded[places[at]] for at in kept]
    if packing is not None:
        return windows_of(packing, rows.select(kept), labels, max(seconds))
    return worst_clips(seconds, [frames[at] for at in kept], labels)


def windows_of(
    packing: PackedTraining, rows: datasets.Dataset, labels: list[list[Any]], window: Seconds
) -> list[WorstClip]:
    """Return the worst of the windows that neighbours are joined to: their labels are those of all their clips.

    Args:
        packing: How clips are joined.
        rows: The clips.
        labels: Theirs.
        window: Padded seconds of a window.
    """
    features, writer, room = packing.joiner.features, packing.joiner.labels, packing.room
    frames = [features.frames(seconds) for seconds in rows["duration"]]
    sizes = ClipSizes(frames, [writer.tokens(own) for own in labels], list(rows["speaker"]))
    found = join_neighbours(sizes, room, range(len(sizes)), any_speaker=packing.any_speaker)
    joined = [
        writer.join([labels[clip] for clip in clips], [(0, 0)] * len(clips)) if len(clips) > 1 else labels[clips[0]]
        for clips in found
    ]
    filled = [max(1, min(sum(frames[clip] for clip in clips), room.frames)) for clips in found]
    return worst_clips([window] * len(found), filled, joined)
