"""Which utterances of a corpus a split keeps: side of the held-out line, duration, text, each id once.

Nothing is decoded. Everything left out is counted by reason:

=====================  =================================================================================
``empty_text``         train only: nothing to learn. In validation and test it counts as insertions.
``no_label``           an empty cell of ``data.columns.label``, where that is given; texts may then be empty
``too_short``          below ``data.min_seconds``
``too_long``           above ``data.max_seconds``
``duplicate_id``       the split has a clip with this id already
``bad_row``            a text or path that is not valid Unicode
``broken_audio``       its header cannot be read
=====================  =================================================================================

and what the readers add (``votes``, ``missing_audio``, ...).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from hf_asr.config.arguments import DataArguments
from hf_asr.data import common_voice, gigaspeech, manifest, synthetic, webdataset
from hf_asr.data.durations import fill_durations
from hf_asr.data.resolve import Source
from hf_asr.errors import UserError
from hf_asr.text import apply_pipeline
from hf_asr.utterance import Drops, Utterance

Read = Callable[[DataArguments, str, Drops], Iterator[Utterance]]

CORPORA: dict[str, Read] = {
    "common_voice": common_voice.read,
    "gigaspeech": gigaspeech.read,
    "manifest": manifest.read,
    "audiofolder": manifest.read_folder,
    "hub": manifest.read_hub,
    "synthetic": synthetic.read,
    "webdataset": webdataset.read,
}
# What is wrong with a clip itself; a clip that a filter leaves out is not broken.
BROKEN = (
    "bad_row",
    "broken_audio",
    "missing_audio",
    "missing_shard",
    "outside_archive",
    "outside_release",
    "truncated_shard",
)
FILTERS = ("empty_text", "no_label", "too_short", "too_long", "broken_audio")
# A clip may pass a limit by this much: headers and side-cars round to milliseconds.
TOLERANCE_SECONDS = 0.001
# Clips whose headers are read together: enough for the threads, little enough to hold.
AT_ONCE = 20_000
BYTES_AT_ONCE = 64 * 2**20


def read_source(source: Source, drops: Drops) -> Iterator[Utterance]:
    """Yield what the reader gives of a source, on the wanted side of the held-out line."""
    read = CORPORA[source.data.corpus]
    for split in source.splits:
        for utterance in read(source.data, split, drops):
            if source.side == source.held_out.side(utterance):
                yield utterance


def select(
    source: Source, split: str, drops: Drops, *, taken: set[str], most: int | None = None, headers: bool = True
) -> Iterator[Utterance]:
    """Yield the utterances of a source that a split keeps, in the corpus's order.

    Args:
        source: What is read.
        split: ``train``, ``validation`` or ``test``.
        drops: Takes the others.
        taken: Ids that the split has already; those of this source are added. An id of another source is prefixed
            with this source's name, an id that this source repeats is dropped.
        most: Stop after so many; nothing is read beyond them.
        headers: Whether durations that the corpus does not tell are read from the clips' headers.

    Raises:
        UserError: A clip is broken and ``data.on_bad_clip`` is ``raise``.
    """
    yield from keep(read_source(source, drops), source, split, drops, taken=taken, most=most, headers=headers)


def keep(
    found: Iterable[Utterance],
    source: Source,
    split: str,
    drops: Drops,
    *,
    taken: set[str],
    most: int | None = None,
    headers: bool = True,
) -> Iterator[Utterance]:
    """Yield what a split keeps of utterances that were read already; see :func:`select`."""
    others, own = frozenset(taken), set[str]()
    for utterance in with_durations(found, drops, _folder(source.data), most) if headers else found:
        check_broken(source.data, drops)
        fault = ("duplicate_id", "") if utterance.id in own else why_left_out(utterance, source.data, split)
        if fault:
            drops.add(fault[0], utterance.id, fault[1])
            continue
        own.add(utterance.id)
        if utterance.id in others:
            utterance = replace(utterance, id=f"{source.name}:{utterance.id}")
        taken.add(utterance.id)
        yield utterance
        if len(own) == most:
            return
    check_broken(source.data, drops)


def why_left_out(utterance: Utterance, data: DataArguments, split: str) -> tuple[str, str] | None:
    """Return reason and detail why a split leaves an utterance out; None when it keeps it.

    An unknown duration is no reason.
    """
    seconds = utterance.duration
    if not is_unicode(utterance):
        return "bad_row", "its text or path is not valid Unicode"
    if "label" in data.columns:  # a classifier's corpus: what it says is not asked
        if not utterance.label:
            return "no_label", f"column {data.columns['label']} is empty"
    elif split == "train" and not apply_pipeline(data.text_pipeline, utterance.text).strip():
        return "empty_text", repr(utterance.text) if utterance.text else ""
    if seconds is None:
        return None
    if not seconds >= data.min_seconds - TOLERANCE_SECONDS:
        return "too_short", f"{seconds:.2f} s, data.min_seconds is {data.min_seconds:g}"
    if seconds > data.max_seconds + TOLERANCE_SECONDS:
        return "too_long", f"{seconds:.2f} s, data.max_seconds is {data.max_seconds:g}"
    return None


def with_durations(
    utterances: Iterable[Utterance], drops: Drops, folder: str | None = None, most: int | None = None
) -> Iterator[Utterance]:
    """Fill durations of a block of clips at a time, so that memory stays flat and headers are read by threads.

    Args:
        utterances: Clips; those with a duration pass through while none waits before them.
        drops: Takes clips whose header cannot be read.
        folder: Where the side-car belongs that keeps durations.
        most: How many will be asked for; blocks are then not much larger.
    """
    at_once = AT_ONCE if most is None else min(AT_ONCE, 2 * most)
    block: list[Utterance] = []
    size = 0
    for utterance in utterances:
        if not block and utterance.duration is not None:
            yield utterance
            continue
        block.append(utterance)
        size += len(utterance.audio.data or b"")
        if len(block) >= at_once or size >= BYTES_AT_ONCE:
            yield from fill_durations(block, drops, folder)
            block, size = [], 0
    yield from fill_durations(block, drops, folder)


def is_unicode(utterance: Utterance) -> bool:
    """Tell whether id, text and path can be written as UTF-8 (a file name of another encoding cannot)."""
    try:
        f"{utterance.id}{utterance.text}{utterance.speaker}{utterance.audio.path}".encode()
    except UnicodeEncodeError:
        return False
    return True


def check_broken(data: DataArguments, drops: Drops) -> None:
    """Stop at a broken clip where the user asked for it.

    Raises:
        UserError: One of ``drops`` is broken and ``data.on_bad_clip`` is ``raise``.
    """
    if data.on_bad_clip != "raise":
        return
    for reason in BROKEN:
        for id, detail in drops.reasons.get(reason, []):
            raise UserError(
                f"data.on_bad_clip=raise: expected every clip to be usable, found {id}: {reason}: {detail}. Mend or "
                "remove the clip, or set data.on_bad_clip=skip to leave such clips out and count them."
            )


def _folder(data: DataArguments) -> str | None:
    return data.path if data.path and os.path.isdir(data.path) else None
