"""The list of utterances on a page: what was said and what was written, word by word, to be filtered and sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hf_asr.evaluation.page import join, note, player
from hf_asr.evaluation.page_analysis import align
from hf_asr.evaluation.page_run import Prediction, Scored, edits, length, rate_of
from hf_asr.evaluation.page_scale import counted, per_cent, short_name, without_place

MOST_LISTED = 300
# The others appear when asked for; without a script all of them stand there.
SHOWN_AT_FIRST = 20
# A recording of an hour has 10,000 words: behind so many a text is cut on the page, not in the CSV.
MOST_WORDS = 400

TAGS = {
    "": "all",
    "S": "with substitutions",
    "D": "with deletions",
    "I": "with insertions",
    "empty": "nothing recognised",
    "worse": "worse than before",
    "better": "better than before",
    "right": "without an error",
    "audio": "to be listened to",
}
ORDERS = {
    "errors down": "most errors",
    "rate down": "highest rate",
    "change down": "lost most against before",
    "change up": "gained most against before",
    "seconds down": "longest",
    "seconds up": "shortest",
    "speaker up": "speaker",
    "id up": "id",
}


@dataclass(frozen=True, eq=False)
class Listed:
    """An utterance with what each system wrote of it.

    Attributes:
        row: Prediction of the system that the list is sorted by.
        rows: Prediction of each system, in the systems' order; None where it did not score this clip.
        errors: Errors.
        change: Errors more than the first system's; 0 with a single system.
    """

    row: Prediction
    rows: Sequence[Prediction | None]
    errors: int
    change: int


def worst_first(systems: Sequence[Scored], most: int = MOST_LISTED) -> list[Listed]:
    """Return the utterances with most errors of the last system, and among them those it lost most.

    Two thirds of the places go to the most errors, the others to what got worse (or better) most.

    Args:
        systems: What is compared, before and after; the same clips as far as they have them.
        most: How many at most.
    """
    others = [{row["id"]: row for row in system.predictions} for system in systems]
    everything = [_listed(row, [known.get(row["id"]) for known in others]) for row in systems[-1].predictions]
    by_errors = sorted(everything, key=lambda item: (-item.errors, -_rate(item.row), str(item.row["id"])))
    if len(by_errors) <= most:
        return by_errors
    first = by_errors[: most * 2 // 3]
    by_change = sorted(by_errors[len(first) :], key=lambda item: -abs(item.change))
    chosen = {id(item) for item in [*first, *by_change[: most - len(first)]]}
    return [item for item in by_errors if id(item) in chosen]


def utterance_list(
    listed: Sequence[Listed], systems: Sequence[Scored], clips: Mapping[str, bytes], *, total: int
) -> Markup:
    """Return the list with its search, filter and order.

    Args:
        listed: What is shown, in its first order.
        systems: The systems that wrote it.
        clips: Id to Ogg audio, for those that can be listened to.
        total: Utterances there are, to say how many are not shown.
    """
    if not listed:
        return Markup("")
    columns = [
        _aligned([item.rows[place] for item in listed], rate_of(systems[-1]) == "cer") for place in range(len(systems))
    ]
    items = [
        _item(item, [column[row] for column in columns], systems, clips.get(item.row["id"]))
        for row, item in enumerate(listed)
    ]
    missing = total - len(listed)
    rest = (
        f"The {len(listed):,} of {total:,} utterances with most errors or the largest change are here; the other "
        f"{missing:,} are in test_predictions.csv."
        if missing
        else f"All {total:,} utterances are here."
    )
    return Markup(
        '<div data-list="{}">{}{}{}<ul class="items">{}</ul>'
        '<button type="button" class="more" hidden>show more</button></div>'
    ).format(SHOWN_AT_FIRST, note(rest), _key(), _tools(len(systems) > 1, bool(clips)), join(items))


def aligned_words(alignment: Sequence[tuple[str, str | None, str | None]]) -> Markup:
    """Return an alignment in colours: wrong words beside the right ones, left out and added ones marked."""
    parts, words = [], 0
    for kind, reference, hypothesis in alignment:
        if words >= MOST_WORDS:
            parts.append(Markup("…"))
            break
        words += len((reference or hypothesis or "").split())
        parts.append(_part(kind, reference, hypothesis))
    return Markup(" ").join(parts)


def _part(kind: str, reference: str | None, hypothesis: str | None) -> Markup:
    if kind == "S":
        return Markup('<span class="sub" title="substitution"><s>{}</s> <b>{}</b></span>').format(reference, hypothesis)
    if kind == "D":
        return Markup('<del title="deletion">{}</del>').format(reference)
    if kind == "I":
        return Markup('<ins title="insertion">{}</ins>').format(hypothesis)
    return Markup("<span>{}</span>").format(_cut(reference or ""))


def _cut(text: str) -> str:
    words = text.split()
    return text if len(words) <= MOST_WORDS else " ".join(words[:MOST_WORDS])


def _listed(row: Prediction, rows: Sequence[Prediction | None]) -> Listed:
    first = rows[0]
    return Listed(row, rows, edits(row), edits(row) - edits(first) if first is not None and len(rows) > 1 else 0)


def _aligned(
    rows: Sequence[Prediction | None], characters: bool
) -> list[Sequence[tuple[str, str | None, str | None]] | None]:
    known = [row for row in rows if row is not None]
    found = iter(align(known, characters) if known else [])
    return [None if row is None else next(found) for row in rows]


def _item(
    item: Listed,
    alignments: Sequence[Sequence[tuple[str, str | None, str | None]] | None],
    systems: Sequence[Scored],
    audio: bytes | None,
) -> Markup:
    row, words = item.row, length(item.row)
    unit = "characters" if rate_of(systems[-1]) == "cer" else "words"
    errors = counted(item.errors, "error")
    told = [
        f"{words} {unit}",
        f"{row['duration']:.1f} s" if row["duration"] is not None else "",
        short_name(row["speaker"]),
    ]
    heading = Markup("<b>{}</b> <span>{}</span> {} <code>{}</code>").format(
        errors,
        per_cent(_rate(row)) if words else "an empty reference",
        join(Markup("<span>{}</span> ").format(text) for text in told if text),
        without_place(row["id"]),
    )
    lines = [
        Markup('<div class="system"><span>{}</span><span class="words" dir="auto">{}</span></div>').format(
            system.name, _said(alignment)
        )
        for system, alignment in zip(systems, alignments, strict=True)
    ]
    return Markup(
        '<li class="item" data-tags="{}" data-errors="{}" data-rate="{:.4f}" data-change="{}" data-seconds="{}" '
        'data-speaker="{}" data-id="{}"><header>{}</header>{}{}</li>'
    ).format(
        " ".join(_tags(item, audio)),
        item.errors,
        _rate(row),
        item.change,
        "" if row["duration"] is None else row["duration"],
        row["speaker"],
        without_place(row["id"]),
        heading,
        join(lines),
        "" if audio is None else player(audio),
    )


def _said(alignment: Sequence[tuple[str, str | None, str | None]] | None) -> Markup:
    if alignment is None:
        return Markup("<small>not scored</small>")
    return aligned_words(alignment) if alignment else Markup("<small>nothing said, nothing written</small>")


def _tags(item: Listed, audio: bytes | None) -> list[str]:
    row = item.row
    kinds = {"S": "substitutions", "D": "deletions", "I": "insertions"}
    tags = [tag for tag, name in kinds.items() if row[name]]
    tags += ["right"] if not item.errors else []
    tags += ["empty"] if not row["hypothesis_normalized"].strip() else []
    tags += ["worse"] if item.change > 0 else ["better"] if item.change < 0 else []
    return tags + (["audio"] if audio is not None else [])


def _key() -> Markup:
    return Markup('<p class="note words">{} · {} · {}</p>').format(
        Markup('<span class="sub"><s>said</s> <b>written</b></span> substitution'),
        Markup("<del>said</del> deletion"),
        Markup("<ins>written</ins> insertion"),
    )


def _tools(paired: bool, audible: bool) -> Markup:
    tags = {
        tag: name for tag, name in TAGS.items() if (paired or name[-6:] != "before") and (audible or tag != "audio")
    }
    orders = {key: name for key, name in ORDERS.items() if paired or not name.endswith("before")}
    return Markup(
        '<div class="tools"><label><input type="search" name="search" placeholder="words, speaker or id" '
        'aria-label="search"></label><label>show <select name="tag">{}</select></label>'
        '<label>sort by <select name="sort">{}</select></label><output aria-live="polite"></output></div>'
    ).format(_options(tags), _options(orders))


def _options(values: Mapping[str, Any]) -> Markup:
    return join(Markup('<option value="{}">{}</option>').format(value, name) for value, name in values.items())


def _rate(row: Prediction) -> float:
    """Return an utterance's rate; its insertions where its reference is empty, as the counts do."""
    return edits(row) / (length(row) or 1)
