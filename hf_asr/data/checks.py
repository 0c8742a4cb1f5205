"""What is wrong with a corpus before anything is trained on it: checks over plain lists, one result each."""

from __future__ import annotations

import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hf_asr.data.audio import BrokenAudio, load
from hf_asr.data.scripts import count_scripts, is_in_scripts, scripts_of
from hf_asr.data.selection import BROKEN
from hf_asr.utterance import AudioRef, Drops, Seconds

# Characters a second that nobody speaks: auctioneers reach 400 words a minute, 6.7 words of 6 characters a second.
MAX_CHARACTERS_PER_SECOND = 40.0
# Read speech of one corpus lies within a factor of two of its median; a text of another clip does not.
MAX_TIMES_MEDIAN = 3.0
# Below this share of texts in another script, names and quotations explain it.
MAX_FOREIGN_SHARE = 0.05
# Losing more than this to the duration limits is worth a look: they may be meant for another corpus.
MAX_FILTERED_SHARE = 0.1
# Reasons of left-out rows that are faults of the corpus; the others are filters at work.
FAULTS = frozenset({*BROKEN, "empty_text", "duplicate_id"})
NAMED = 5


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: What was looked at.
        ok: False makes it a finding.
        found: What is there.
        expected: What should be there.
        do: What mends it.
    """

    name: str
    ok: bool
    found: str
    expected: str = ""
    do: str = ""


@dataclass(frozen=True)
class Transcript:
    """One clip as the checks see it.

    Attributes:
        place: Split and id, for messages.
        text: Transcript as the corpus has it.
        spoken: The text after the label pipeline.
        duration: Seconds; None when not known.
        language: Language tag; empty when unknown.
    """

    place: str
    text: str
    spoken: str
    duration: Seconds | None = None
    language: str = ""


def spread(size: int, limit: int) -> list[int]:
    """Return at most ``limit`` indices below ``size``, evenly spread: the sample of a check, the same every time."""
    if size <= limit:
        return list(range(size))
    return [index * size // limit for index in range(limit)]


def name_some(items: Sequence[str], total: int | None = None) -> str:
    """Name the first few of many, and say how many more there are."""
    rest = (len(items) if total is None else total) - min(len(items), NAMED)
    return "; ".join(items[:NAMED]) + (f"; and {rest:,} more" if rest else "")


def check_split(name: str, clips: int | None, seconds: Seconds | None, drops: Drops) -> Check:
    """Look at how much of a split is left, and name what was left out.

    Args:
        name: The split.
        clips: Clips that are left; None for a stream.
        seconds: Their length together; None when not known.
        drops: What was left out.
    """
    size = "a stream" if clips is None else f"{clips:,} clips"
    length = "" if seconds is None else f", {seconds / 3600:.2f} h"
    lost = "".join(f"; {line}" for line in drops.lines(NAMED))
    counts = drops.counts()
    filtered = counts.get("too_short", 0) + counts.get("too_long", 0)
    return Check(
        name,
        ok=(clips is None or filtered <= MAX_FILTERED_SHARE * (clips + filtered)) and not counts.keys() & FAULTS,
        found=size + length + lost,
        expected=f"whole rows, and at most {MAX_FILTERED_SHARE:.0%} outside data.min_seconds and data.max_seconds",
        do="Mend or remove the rows that are named, or set the limits to what the corpus has.",
    )


def check_empty(transcripts: Sequence[Transcript]) -> Check:
    """Find clips without a text, or whose text the label pipeline leaves nothing of."""
    empty = [item.place for item in transcripts if not item.spoken.strip()]
    return Check(
        "empty texts",
        ok=not empty,
        found=f"{len(empty):,} of {len(transcripts):,}" + (f": {name_some(empty)}" if empty else ""),
        expected="a text for every clip",
        do="Transcribe them or take them out: a model learns from them to write nothing.",
    )


def check_label_lengths(places: Sequence[str], lengths: Sequence[int], limit: int) -> Check:
    """Compare labels with the decoder's positions.

    Args:
        places: Split and id of every clip.
        lengths: Label tokens of every clip, prefix and end token included.
        limit: Positions of the decoder; the start token needs one of them.
    """
    long = [f"{place} ({length + 1})" for place, length in zip(places, lengths, strict=True) if length + 1 > limit]
    longest = max(lengths, default=0) + 1
    return Check(
        "label lengths",
        ok=not long,
        found=f"the longest has {longest} tokens" + (f"; too long: {name_some(long)}" if long else ""),
        expected=f"at most {limit} tokens, the positions of the decoder",
        do="Cut these clips into sentences, or leave them out; a recipe skips and names them.",
    )


def check_round_trip(transcripts: Sequence[Transcript], decoded: Sequence[str]) -> Check:
    """Compare every label's text with what its tokens are decoded to, spaces apart."""
    changed = [
        f"{item.place}: {item.spoken!r} -> {back!r}"
        for item, back in zip(transcripts, decoded, strict=True)
        if item.spoken.split() != back.split()
    ]
    return Check(
        "label round trip",
        ok=not changed,
        found=f"{len(changed):,} of {len(transcripts):,} change" + (f": {name_some(changed)}" if changed else ""),
        expected="labels that decode to the text they were made of",
        do="Choose a data.text_pipeline or a tokenizer that keeps these texts.",
    )


def check_characters(transcripts: Sequence[Transcript], round_trip: Callable[[str], str]) -> Check:
    """Find the characters that the tokenizer cannot write.

    Args:
        transcripts: All clips.
        round_trip: Encodes a text to tokens and decodes them.
    """
    counts = Counter(char for item in transcripts for char in item.spoken if not char.isspace())
    lost = [char for char, _ in counts.most_common() if round_trip(char).strip() != char]
    named = [f"{char!r} ({unicodedata.name(char, 'no name')}), {counts[char]:,} times" for char in lost]
    return Check(
        "characters",
        ok=not lost,
        found=f"{len(counts)} different" + (f", unknown to the tokenizer: {name_some(named)}" if lost else ""),
        expected="characters that the tokenizer knows",
        do="Replace them in the corpus, or take a model whose tokenizer has them.",
    )


def check_speaking_rate(transcripts: Sequence[Transcript]) -> Check:
    """Find texts too long for their clip: more characters a second than anyone in this corpus speaks."""
    timed = [(item, len(item.text) / item.duration) for item in transcripts if item.duration]
    if not timed:
        return Check("text against duration", ok=True, found="no durations known, not checked")
    median = statistics.median(rate for _, rate in timed)
    limit = min(MAX_CHARACTERS_PER_SECOND, MAX_TIMES_MEDIAN * median) if median else MAX_CHARACTERS_PER_SECOND
    fast = sorted(((rate, item) for item, rate in timed if rate > limit), key=lambda pair: -pair[0])
    named = [f"{item.place} ({rate:.0f}/s: {item.text[:60]!r})" for rate, item in fast]
    return Check(
        "text against duration",
        ok=not fast,
        found=f"{median:.1f} characters/s" + (f"; too long for their clip: {name_some(named)}" if fast else ""),
        expected=f"at most {limit:.0f} characters/s, 3 times the median and never above 40",
        do="Listen to them: the text is another clip's, or the audio is cut. Mend or remove them.",
    )


def check_script(transcripts: Sequence[Transcript]) -> Check:
    """Compare the letters of the texts with the script of their language."""
    known = [(item, scripts) for item in transcripts if (scripts := scripts_of(item.language))]
    if not known:
        return Check("language against text", ok=True, found="no language with a known script, not checked")
    foreign = [item for item, scripts in known if not is_in_scripts(item.text, scripts)]
    letters = sum((count_scripts(item.text) for item, _ in known), Counter[str]())
    shares = ", ".join(f"{name.title()} {number / letters.total():.1%}" for name, number in letters.most_common(3))
    named = [f"{item.place} ({item.language}: {item.text[:60]!r})" for item in foreign]
    wanted = sorted({script.title() for _, scripts in known for script in scripts})
    return Check(
        "language against text",
        ok=len(foreign) <= MAX_FOREIGN_SHARE * len(known),
        found=f"letters: {shares or 'none'}" + (f"; in another script: {name_some(named)}" if foreign else ""),
        expected=f"{' or '.join(wanted)} letters in {1 - MAX_FOREIGN_SHARE:.0%} of the texts",
        do="Set data.language to the language of the texts, or take the corpus of that language.",
    )


def check_audio(places: Sequence[str], clips: Sequence[AudioRef], total: int) -> Check:
    """Decode a sample of the clips.

    Args:
        places: Split and id of every clip of the sample.
        clips: Their audio.
        total: Clips the sample was drawn from.
    """
    broken = []
    for place, audio in zip(places, clips, strict=True):
        try:
            load(audio)
        except BrokenAudio as error:
            broken.append(f"{place}: {error}")
    sample = f"{len(clips):,} of {total:,} decoded"
    return Check(
        "audio",
        ok=not broken,
        found=sample + (f"; {len(broken):,} broken: {name_some(broken)}" if broken else ""),
        expected="clips that decode to their end",
        do="Fetch these files again or remove them; a recipe skips and names them.",
    )
