"""Where and how a system errs, from test_detailed_analysis.json: slices, confusions, findings, writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from hf_asr.evaluation.page import Cell, columns, details, facts, join, note, table
from hf_asr.evaluation.page_charts import Bar, Row, interval_plot
from hf_asr.evaluation.page_run import Scored, rate_of
from hf_asr.evaluation.page_scale import counted, per_cent, without_place

# Rows of a plot; a corpus may have 1,000 speakers, the plot shows the worst and says how many there are.
MOST_ROWS = 12
MOST_CONFUSIONS = 25
NAMES = {
    "duration": "Duration",
    "reference_length": "Length of the reference",
    "speaking_rate": "Speaking rate",
    "snr": "Signal-to-noise ratio",
    "speaker": "Speaker",
}
FINDINGS = {
    "loops": "loops, words written over and over",
    "other_script": "another script",
    "unknown_words": "hardly a word of the test set, as of another language or noise",
    "truncated": "missing ends",
    "empty": "nothing recognised",
    "words_on_silence": "words where nobody speaks",
}


def slice_plots(systems: Sequence[Scored], colours: Sequence[int]) -> Markup:
    """Return a plot for each slice, the systems beside each other in each row.

    Args:
        systems: What is compared; the last one decides which slices and which order.
        colours: Palette index of each system.
    """
    last = systems[-1].analysis or {}
    plots = [_slice_plot(found, systems, colours) for found in last.get("slices", []) if len(found["groups"]) > 1]
    tested = last.get("tested_slices")
    remark = note(f"{tested} parts were compared with the rest of the set; p-values are Holm's.") if tested else ""
    return columns(plots, wide=True) + remark if plots else Markup("")


def confusion_tables(scored: Scored) -> Markup:
    """Return the words that were mistaken, left out and added, most frequent first."""
    if "confusion_matrix" in scored.results:
        return _matrix(scored)
    kind = "characters" if rate_of(scored) == "cer" else "words"
    words = (scored.analysis or {}).get("confusions", {}).get(kind, {})
    head = {"substitutions": ("said", "written", "times", "such as"), "deletions": ("said", "times", "such as")}
    head["insertions"] = ("written", "times", "such as")
    parts = []
    for kind, names in head.items():
        rows = [_confusion_row(entry) for entry in words.get(kind, [])[:MOST_CONFUSIONS]]
        if rows:
            caption = f"{kind.capitalize()}"
            parts.append(table(names, rows, numbers=[len(names) - 2], caption=caption))
    if not parts:
        return Markup("")
    return join([parts[0], columns(parts[1:], wide=True) if parts[1:] else ""])


def finding_list(scored: Scored) -> Markup:
    """Return what stands out: loops, other scripts, truncated and empty hypotheses, each with examples."""
    found = (scored.analysis or {}).get("findings", {})
    there = {kind: entry for kind, entry in found.items() if entry["utterances"]}
    missing = [FINDINGS.get(kind, kind) for kind in found if kind not in there]
    remark = note(f"Looked for and not found: {'; '.join(missing)}.") if missing else Markup("")
    return join([*(_finding(FINDINGS.get(kind, kind), entry) for kind, entry in there.items()), remark])


def writing_facts(scored: Scored) -> Markup:
    """Return how case, punctuation, numbers and names fared, and what normalising makes equal."""
    analysis = scored.analysis or {}
    writing, words, normal = (analysis.get(key) or {} for key in ("writing", "words", "normalization"))
    pairs: list[tuple[str, Any]] = []
    if normal:
        both = f"{per_cent(normal['raw_wer'])} as written, {per_cent(normal['wer'])} after {normal['normalizer']}"
        pairs.append(("WER", both))
    named = {"Case": writing.get("case"), "Punctuation": writing.get("punctuation")}
    named |= {"Numbers": words.get("numbers"), "Names": words.get("names")}
    for name, entry in named.items():
        if entry and entry["rate"] is not None:
            pairs.append((name, f"{per_cent(entry['rate'])} wrong ({entry['errors']:,} of {entry['words']:,} words)"))
    return facts(pairs) + _differences(normal) if pairs else Markup("")


def _matrix(scored: Scored) -> Markup:
    """Return a classifier's confusions: a row a true class, a column what was named."""
    names = scored.results["classes"]
    rows = [
        (name, *counts, per_cent(recall) if (recall := scored.results["recall"][name]) is not None else None)
        for name, counts in zip(names, scored.results["confusion_matrix"], strict=True)
    ]
    return table(("true class", *names, "recall"), rows, numbers=range(1, len(names) + 2))


def _differences(normal: Mapping[str, Any]) -> Markup:
    rows = [
        (entry["reference"], entry["hypothesis"], entry["kind"].replace("_", " "), entry["count"])
        for entry in normal.get("differences", [])[:MOST_CONFUSIONS]
    ]
    if not rows:
        return Markup("")
    return details(
        "What the normalizer makes equal", table(("said", "written", "differs in", "times"), rows, numbers=[3])
    )


def _slice_plot(found: Mapping[str, Any], systems: Sequence[Scored], colours: Sequence[int]) -> Markup:
    rate = rate_of(systems[-1])
    groups = [group for group in found["groups"] if group[rate] is not None]
    shown = groups
    if found["kind"] == "value":
        shown = sorted(groups, key=lambda group: -float(group["interval"][0]))[:MOST_ROWS]
    known = [_groups_of(system, found["name"]) for system in systems]
    rows = [_slice_row(group, rate, known) for group in shown]
    title = NAMES.get(found["name"], found["name"])
    if len(shown) < len(groups) or found["left_out"]:
        title += f": the worst {len(shown)} of {len(groups) + found['left_out']}"
    names = [system.name for system in systems]
    whole = systems[-1].results[rate]
    return interval_plot(rows, series=names if len(names) > 1 else (), title=title, line=whole, colours=colours)


def _groups_of(system: Scored, name: str) -> dict[str, Mapping[str, Any]]:
    found = [entry for entry in (system.analysis or {}).get("slices", []) if entry["name"] == name]
    return {group["label"]: group for group in found[0]["groups"]} if found else {}


def _slice_row(group: Mapping[str, Any], rate: str, known: Sequence[Mapping[str, Mapping[str, Any]]]) -> Row:
    bars = []
    for place, groups in enumerate(known):
        same = groups.get(group["label"])
        if same is not None and same.get(rate) is not None:
            low, high = same["interval"] or (None, None)
            bars.append(Bar(same[rate], low, high, place))
    remark = counted(group["utterances"], "clip") + (", worse than the rest" if group["worse"] else "")
    return Row(str(group["label"]), bars, remark, bool(group["small"]))


def _confusion_row(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    sides = [entry[side] for side in ("reference", "hypothesis") if entry.get(side) is not None]
    example = entry["examples"][0] if entry.get("examples") else None
    text = Markup('<small dir="auto">{}</small>').format(_cut(example["reference"])) if example else ""
    return (*(Markup('<span dir="auto">{}</span>').format(side) for side in sides), entry["count"], Cell(text))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"


def _finding(name: str, entry: Mapping[str, Any]) -> Markup:
    rows = [
        (
            item["reference"],
            item["hypothesis"],
            item.get("detail") or "",
            Markup("<code>{}</code>").format(without_place(item["id"])),
        )
        for item in entry["examples"]
    ]
    size = f"{counted(entry['utterances'], 'utterance')} ({per_cent(entry['share'])})"
    told = f"{name[0].upper()}{name[1:]}: {size}, {counted(entry['words'], 'wrong word')}"
    return details(told, table(("said", "written", "", "id"), rows, sortable=False))
