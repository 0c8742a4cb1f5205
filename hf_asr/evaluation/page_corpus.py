"""The page about a corpus, from what ``corpus_facts`` counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hf_asr.evaluation.page import (
    Section,
    Tile,
    columns,
    details,
    join,
    note,
    picture,
    player,
    render_page,
    table,
    tiles,
)
from hf_asr.evaluation.page_charts import Bar, Row, bar_chart, histogram
from hf_asr.evaluation.page_scale import counted, per_cent, plain, without_place

MOST_SPEAKERS = 12
MOST_WORDS = 15
MOST_CHARACTERS = 60


@dataclass(frozen=True)
class SampleClip:
    """A clip to be looked at and listened to.

    Attributes:
        split: Its split.
        id: Its id.
        text: What is said in it.
        spectrogram: A PNG.
        audio: Ogg Opus.
        detail: A few words, such as its length.
    """

    split: str
    id: str
    text: str
    spectrogram: bytes
    audio: bytes
    detail: str


def corpus_page(
    facts: Mapping[str, Any], clips: Sequence[SampleClip], *, name: str, subtitle: str, remark: str = ""
) -> str:
    """Return the page as HTML.

    Args:
        facts: What :func:`hf_asr.evaluation.corpus_facts.corpus_facts` returned.
        clips: Clips for the gallery.
        name: The corpus.
        subtitle: One line on what was read.
        remark: What is to be said about the gallery, such as clips that could not be decoded.
    """
    splits: dict[str, Any] = facts["splits"]
    words_lead = f"Words are those of the transcripts after the normalizer {facts['normalizer']}."
    sections = [
        Section("splits", "Splits", split_table(splits) + left_out(splits)),
        Section("findings", "What to look at", findings(facts), "What would flatter a result, or spoil a training."),
        Section("durations", "Durations", durations(facts)),
        Section("speakers", "Speakers", speakers(splits)),
        Section("words", "Words", words(splits), words_lead),
        Section("pace", "Characters a second", pace(splits), PACE_LEAD),
        Section("duplicates", "Sentences said more than once", duplicates(splits)),
        Section("gallery", "How it sounds", gallery(clips, remark), GALLERY_LEAD),
    ]
    return render_page(
        name,
        sections,
        eyebrow="hf_asr · corpus",
        subtitle=subtitle,
        hero=tiles(hero(splits)),
        footer="Made by hf-asr inspect; the numbers are in inspect.json. The page loads nothing from a network.",
    )


PACE_LEAD = "A text that is much too long or too short for its clip is often another clip's, or the clip is cut."
GALLERY_LEAD = "Clips from all over the splits: time from left to right, 0 to 8 kHz from below, brighter is louder."


def hero(splits: Mapping[str, Any]) -> list[Tile]:
    """Return the large numbers: of the whole corpus, and how much of the test set training has never seen."""
    seconds = [split["seconds"] for split in splits.values() if split["seconds"] is not None]
    clips = sum(split["utterances"] for split in splits.values())
    first = next(iter(splits.values()))
    found = [
        Tile("Speech", f"{sum(seconds) / 3600:,.2f} h" if seconds else "unknown", f"{clips:,} clips"),
        Tile("Speakers of train", f"{first['speakers']['number']:,}", _largest(first["speakers"])),
        Tile("Vocabulary of train", f"{first['vocabulary']:,}", f"{first['words']:,} words said"),
    ]
    last = list(splits.values())[-1]
    missing = last["out_of_vocabulary"]
    if missing and missing["token_rate"] is not None:
        tone = "bad" if missing["token_rate"] > 0.05 else ""
        told = f"{missing['types']:,} different words"
        found.append(Tile("Words of test not in train", per_cent(missing["token_rate"]), told, tone))
    return found


def split_table(splits: Mapping[str, Any]) -> Markup:
    """Return the sizes, a row a split."""
    head = ("", "clips", "hours", "mean s", "median s", "longest s", "speakers", "words", "vocabulary", "not in train")
    rows = []
    for name, split in splits.items():
        lengths, missing = split["durations"], split["out_of_vocabulary"]
        rows.append(
            (
                name,
                split["utterances"],
                None if split["seconds"] is None else f"{split['seconds'] / 3600:,.2f}",
                *(_seconds(lengths[key]) for key in ("mean", "median", "max")),
                split["speakers"]["number"],
                split["words"],
                split["vocabulary"],
                per_cent(missing["token_rate"]) if missing and missing["token_rate"] is not None else None,
            )
        )
    labels = sorted({label for split in splits.values() for label in split["labels"]})
    more = Markup("")
    if labels:
        counts = [(label, *(split["labels"].get(label, 0) for split in splits.values())) for label in labels]
        more = table(("class", *splits), counts, numbers=range(1, len(splits) + 1))
    return table(head, rows, numbers=range(1, len(head)), sortable=False) + more


def left_out(splits: Mapping[str, Any]) -> Markup:
    """Return what the corpus's reader and its filters left out, and why; nothing where they kept all."""
    rows = [
        (
            name,
            reason.replace("_", " "),
            found["clips"],
            "; ".join(" ".join(map(without_place, item)).strip() for item in found["named"][:3]),
        )
        for name, split in splits.items()
        for reason, found in split["drops"].items()
    ]
    head = ("split", "left out", "clips", "such as")
    return table(head, rows, numbers=[2], sortable=False) if rows else Markup("")


def findings(facts: Mapping[str, Any]) -> Markup:
    """Return what is wrong, a sentence each; or that nothing was found."""
    lines = list(facts["leaks"])
    for name, split in facts["splits"].items():
        rates = split["characters_per_second"]
        told = {
            "without a transcript": split["empty_texts"],
            f"with more than {plain(rates['above'] or 0)} characters a second": rates["num_fast"],
            f"with less than {plain(rates['below'] or 0)} characters a second": rates["num_slow"],
        }
        lines += [f"{name}: {counted(number, 'clip')} {text}" for text, number in told.items() if number]
    if not lines:
        return Markup('<p class="fine">{}</p>').format(
            "No clip, sentence or speaker is in two splits, no transcript is empty, every text fits its clip."
        )
    return join(Markup('<p class="finding">{}</p>').format(line) for line in lines)


def durations(facts: Mapping[str, Any]) -> Markup:
    """Return a histogram of each split."""
    charts = [
        histogram(
            facts["duration_edges"],
            {name: split["durations"]["histogram"]},
            title=name,
            x_label="seconds",
            colours=[place],
        )
        for place, (name, split) in enumerate(facts["splits"].items())
        if sum(split["durations"]["histogram"])
    ]
    unknown = [
        f"{name} {split['durations']['unknown']:,}"
        for name, split in facts["splits"].items()
        if split["durations"]["unknown"]
    ]
    remark = note(f"Clips whose length is unknown: {', '.join(unknown)}.") if unknown else Markup("")
    return columns(charts) + remark if charts else remark


def speakers(splits: Mapping[str, Any]) -> Markup:
    """Return who said most."""
    charts = []
    for place, (name, split) in enumerate(splits.items()):
        most = split["speakers"]["most"][:MOST_SPEAKERS]
        if not most:
            continue
        rows = [
            Row(entry["speaker"], [Bar(entry["seconds"] / 60)], counted(entry["utterances"], "clip")) for entry in most
        ]
        title = f"{name}: minutes of the {len(rows)} who said most, of {split['speakers']['number']:,}"
        charts.append(bar_chart(rows, title=title, format=plain, colours=[place]))
    unknown = sum(split["speakers"]["unknown"] for split in splits.values())
    remark = note(f"{unknown:,} clips have no speaker.") if unknown else Markup("")
    return columns(charts, wide=True) + remark if charts else remark


def words(splits: Mapping[str, Any]) -> Markup:
    """Return frequent words, those that train lacks, and the characters."""
    name, first = next(iter(splits.items()))
    share = per_cent(first["words_once"] / first["vocabulary"]) if first["vocabulary"] else "none"
    once = note(f"{first['words_once']:,} of {name}'s {first['vocabulary']:,} words ({share}) were said once.")
    parts = [_word_table(first["most_frequent_words"], f"{name}: most frequent words")]
    for other, split in splits.items():
        missing = split["out_of_vocabulary"]
        if missing and missing["types"]:
            told = f"{missing['types']:,} words that train does not have ({per_cent(missing['token_rate'])})"
            parts.append(_word_table(missing["most"], f"{other}: {told}"))
    return once + columns(parts) + characters(first)


def _word_table(found: Sequence[Mapping[str, Any]], caption: str) -> Markup:
    word = Markup('<span dir="auto">{}</span>')
    rows = [(word.format(entry["word"]), entry["count"]) for entry in found[:MOST_WORDS]]
    return table(("word", "times"), rows, numbers=[1], caption=caption) if rows else Markup("")


def characters(split: Mapping[str, Any]) -> Markup:
    """Return how often each character is written, the rare ones too: they are often mistakes."""
    found = split["characters"]
    rows = [(entry["character"], f"U+{ord(entry['character']):04X}", entry["count"]) for entry in found]
    shown = table(("character", "code", "times"), rows[:MOST_CHARACTERS], numbers=[2])
    if len(rows) > MOST_CHARACTERS:
        rare = " ".join(row[0] for row in rows[MOST_CHARACTERS:][-200:])
        shown += note(f"{len(rows) - MOST_CHARACTERS:,} rarer ones, the last of them: {rare}")
    return details(f"{len(rows):,} different characters", shown)


def pace(splits: Mapping[str, Any]) -> Markup:
    """Return the clips whose text does not fit their length."""
    parts = []
    for name, split in splits.items():
        rates = split["characters_per_second"]
        if rates["median"] is None:
            continue
        parts.append(note(f"{name}: {plain(rates['median'])} characters a second in the median."))
        rows = [
            (
                plain(entry["characters_per_second"]),
                _seconds(entry["duration"]),
                Markup('<span dir="auto">{}</span>').format(entry["text"][:200]),
                Markup("<code>{}</code>").format(without_place(entry["id"])),
            )
            for entry in [*rates["fast"], *rates["slow"]]
        ]
        if rows:
            parts.append(table(("a second", "s", "text", "id"), rows, caption=f"{name}: outliers"))
    return join(parts)


def duplicates(splits: Mapping[str, Any]) -> Markup:
    """Return the sentences that several clips of a split have."""
    parts = []
    for name, split in splits.items():
        found = split["duplicates"]
        if not found["sentences"]:
            parts.append(note(f"{name}: none."))
            continue
        sentences = counted(found["sentences"], "sentence")
        told = f"{name}: {sentences} in {found['utterances']:,} clips ({per_cent(found['share'])})"
        rows = [(Markup('<span dir="auto">{}</span>').format(e["text"][:200]), e["count"]) for e in found["most"]]
        parts.append(details(told, table(("sentence", "clips"), rows, numbers=[1])))
    return join(parts)


def gallery(clips: Sequence[SampleClip], remark: str) -> Markup:
    """Return the clips with their spectrograms and players."""
    shown = join(
        Markup('<div class="shot">{}{}<p dir="auto">{}</p><p class="note">{}, {} <code>{}</code></p></div>').format(
            picture(clip.spectrogram, f"spectrogram of {without_place(clip.id)}"),
            player(clip.audio),
            clip.text,
            clip.split,
            clip.detail,
            without_place(clip.id),
        )
        for clip in clips
    )
    told = note(remark) if remark else Markup("")
    return Markup('<div class="gallery">{}</div>{}').format(shown, told) if clips else told


def _largest(found: Mapping[str, Any]) -> str:
    share = found["share_of_largest"]
    return f"the largest said {per_cent(share)}" if share is not None else "none is named"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"
