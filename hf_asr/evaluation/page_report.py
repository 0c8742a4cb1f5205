"""The page about a run, or about several side by side: ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from hf_asr.evaluation.page import Section, Tile, columns, join, note, paragraph, render_page, tiles
from hf_asr.evaluation.page_also import LEAD, other_sets
from hf_asr.evaluation.page_charts import Bar, Row, interval_plot, stacked_bars
from hf_asr.evaluation.page_curves import training_curves
from hf_asr.evaluation.page_errors import confusion_tables, finding_list, slice_plots, writing_facts
from hf_asr.evaluation.page_run import Run, Scored, difference, edits, rate_of
from hf_asr.evaluation.page_scale import per_cent, plain
from hf_asr.evaluation.page_setup import left_out, scores_table, setup_facts
from hf_asr.evaluation.page_utterances import MOST_LISTED, utterance_list, worst_first

# Grey for the untouched model, blue for what came of it; further runs in the palette's order.
BEFORE, AFTER = 6, 0
KINDS = ("substitutions", "deletions", "insertions")
KIND_COLOURS = (1, 3, 0)


def systems_of(runs: Sequence[Run]) -> list[Scored]:
    """Return what is set side by side: before and after of one run, or the results of several, named by their runs."""
    if len(runs) == 1:
        return [scored for scored in (runs[0].before, runs[0].after) if scored is not None]
    names = run_names(runs)
    return [
        Scored(name, run.after.results, run.after.predictions, run.after.analysis)
        for name, run in zip(names, runs, strict=True)
    ]


def run_names(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run, its folder added where two have the same."""
    names = [run.name for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({run.folder})" for name, run in zip(names, runs, strict=True)]


def clips_wanted(runs: Sequence[Run], most: int) -> list[str]:
    """Return the ids of the utterances whose audio is worth having on the page, the worst first."""
    systems = systems_of(runs)
    if not systems[-1].predictions:
        return []
    return [item.row["id"] for item in worst_first(systems) if item.errors][:most]


def report_page(
    runs: Sequence[Run],
    clips: Mapping[str, bytes] | None = None,
    *,
    without_audio: str = "",
    most_listed: int = MOST_LISTED,
) -> str:
    """Return the page as HTML.

    Args:
        runs: One run, or several that are set side by side.
        clips: Id to Ogg Opus of utterances that can be listened to.
        without_audio: Why there is no audio, told above the utterances; empty when there is.
        most_listed: How many utterances are listed.
    """
    systems = systems_of(runs)
    colours = colours_of(runs, systems)
    last = systems[-1]
    sections = [
        Section("summary", "Summary", summary(runs, systems, colours)),
        Section("other-sets", "Other sets", other_sets(runs, run_names(runs), (BEFORE, AFTER)), LEAD),
        Section("slices", "Where it errs", slice_plots(systems, colours), slices_lead(last)),
        Section("training", "Training", training_curves(runs, run_names(runs))),
        Section("confusions", "Confusions", confusion_tables(last), confusions_lead(last, len(runs) > 1)),
        Section("findings", "What stands out", finding_list(last) + writing_facts(last)),
        Section("utterances", "Utterances", utterances(systems, clips or {}, without_audio, most_listed)),
        Section("setup", "How it was made", join(setup_facts(run) + left_out(run) for run in runs)),
    ]
    return render_page(
        runs[0].name if len(runs) == 1 else f"{len(runs)} runs side by side",
        sections,
        eyebrow="hf_asr · report" if len(runs) == 1 else "hf_asr · comparison",
        subtitle=subtitle(runs),
        hero=tiles(hero_tiles(runs, systems)),
        footer="Made by hf-asr report from the files of the run folder. Nothing on this page is loaded from a network.",
    )


def colours_of(runs: Sequence[Run], systems: Sequence[Scored]) -> list[int]:
    """Return the palette index of each system."""
    if len(runs) == 1:
        return [BEFORE, AFTER] if len(systems) == 2 else [AFTER]
    return [(index + (index >= BEFORE)) % 8 for index in range(len(systems))]


def subtitle(runs: Sequence[Run]) -> str:
    """Return one line: which model, on which corpus."""
    if len(runs) > 1:
        return ", ".join(run_names(runs))
    run = runs[0]
    if description := run.setting("experiment", "description"):
        return str(description)
    model, corpus = run.setting("model", "name_or_path"), run.setting("data", "corpus")
    return " on ".join(str(part) for part in (model or run.after.results.get("model"), corpus) if part)


def hero_tiles(runs: Sequence[Run], systems: Sequence[Scored]) -> list[Tile]:
    """Return the large numbers."""
    if len(runs) > 1:
        return [main_tile(scored, None, scored.name) for scored in systems]
    run, results = runs[0], runs[0].after.results
    tiles = [main_tile(run.after, run.before)]
    if run.after.writes_words:
        other = "cer" if rate_of(run.after) == "wer" else "wer"
        tiles.append(rate_tile(other, run.after, run.before))
        if run.after.predictions:
            right = sum(edits(row) == 0 for row in run.after.predictions) / len(run.after.predictions)
            tiles.append(
                Tile("Utterances without an error", per_cent(right), f"{per_cent(1 - right)} with one or more")
            )
    tiles.append(size_tile(results))
    if results.get("rtfx"):
        tiles.append(Tile("Speed", f"RTFx {plain(results['rtfx'])}", "seconds of audio decoded a second"))
    return tiles


def main_tile(after: Scored, before: Scored | None, label: str = "") -> Tile:
    """Return the tile of the rate that counts."""
    results = after.results
    if after.writes_words:
        return rate_tile(rate_of(after), after, before, label)
    if "accuracy" in results:
        low, high = results["accuracy_interval"]
        detail = f"95 % [{per_cent(low)}, {per_cent(high)}], guess {per_cent(results['majority_accuracy'])}"
        return Tile(label or "Accuracy", per_cent(results["accuracy"]), detail)
    return Tile(label or "RMSE", plain(results["rmse"]), f"of the mean {plain(results['rmse_of_mean'])}")


def rate_tile(rate: str, after: Scored, before: Scored | None, label: str = "") -> Tile:
    """Return the tile of an error rate with what it was before, or with its interval."""
    value = after.results[rate]
    if before is None:
        low, high = after.results[f"{rate}_interval"]
        return Tile(label or rate.upper(), per_cent(value), f"95 % [{per_cent(low)}, {per_cent(high)}]")
    old = before.results[rate]
    relative = f", {100 * (value - old) / old:+.0f} %".replace("-", "\N{MINUS SIGN}") if old else ""
    tone = "good" if value < old else "bad" if value > old else ""
    return Tile(label or rate.upper(), per_cent(value), f"before {per_cent(old)}{relative}", tone)


def size_tile(results: Mapping[str, Any]) -> Tile:
    """Return how much was scored."""
    seconds = results.get("seconds_of_audio")
    words = f"{results['num_words']:,} words" if "num_words" in results else ""
    hours = f"{seconds / 3600:.2f} h" if seconds else ""
    return Tile(
        f"{str(results.get('split', 'test')).capitalize()} set",
        f"{results['num_utterances']:,} clips",
        ", ".join(text for text in (hours, words) if text),
    )


def summary(runs: Sequence[Run], systems: Sequence[Scored], colours: Sequence[int]) -> Markup:
    """Return the rates with their intervals, the kinds of errors, the sentence on the difference, and all numbers."""
    parts = [change_sentence(runs[0]) if len(runs) == 1 else other_clips(systems)]
    words = [(place, scored) for place, scored in enumerate(systems) if scored.writes_words]
    if words:
        rows = [Row(rate.upper(), [_bar(rate, scored, place) for place, scored in words]) for rate in ("wer", "cer")]
        names = [scored.name for scored in systems]
        rates = interval_plot(rows, series=names, title="Error rates with 95 % intervals", colours=colours)
        kinds = stacked_bars(
            [(scored.name, [scored.results[kind] for kind in KINDS]) for _, scored in words],
            series=KINDS,
            title="Word errors by kind",
            colours=KIND_COLOURS,
        )
        parts.append(columns([rates, kinds], wide=True))
        results = words[-1][1].results
        drawn = f"Intervals are drawn by {results['wer_interval_by']}. Both sides pass the normalizer "
        parts.append(note(f"{drawn}{results['normalizer']} before they are compared."))
    return join([*parts, scores_table(runs)])


def other_clips(systems: Sequence[Scored]) -> Markup:
    """Return a warning where results are set side by side that are not of the same clips or normalizer."""
    first = systems[0]
    ids = [{row["id"] for row in system.predictions} for system in systems]
    others = [
        system.name
        for system, known in zip(systems[1:], ids[1:], strict=True)
        if known != ids[0] or system.results.get("normalizer") != first.results.get("normalizer")
    ]
    if not others:
        return Markup("")
    return Markup('<p class="finding">{}</p>').format(
        f"{', '.join(others)}: scored on other clips than {first.name}, or with another normalizer. The numbers stand "
        "beside each other and say nothing about which is better."
    )


def _bar(rate: str, scored: Scored, place: int) -> Bar:
    low, high = scored.results[f"{rate}_interval"]
    return Bar(scored.results[rate], low, high, place)


def change_sentence(run: Run) -> Markup:
    """Return what fine-tuning changed and how sure that is; nothing without a baseline on the same clips."""
    found = difference(run)
    if found is None:
        return Markup("")
    low, high = (_points(end) for end in (found.low, found.high))
    sure = "is beyond chance" if found.significant else "may be chance"
    return paragraph(
        f"On the same clips {rate_of(run.after).upper()} changed by {_points(found.difference)} points, 95 % interval "
        f"{low} to {high} (paired, drawn by {found.by}; p = {found.p_value:.3f}). The change {sure}."
    )


def _points(rate: float) -> str:
    return f"{100 * rate:+.1f}".replace("-", "\N{MINUS SIGN}")


def slices_lead(scored: Scored) -> str:
    """Return what the plots of slices show."""
    if not (scored.analysis or {}).get("slices"):
        return ""
    return (
        f"{rate_of(scored).upper()} of parts of the set with 95 % intervals; the dashed line is the whole set. Pale "
        "parts are too small to be trusted."
    )


def confusions_lead(scored: Scored, several: bool) -> str:
    """Return which system the confusions are of."""
    return f"What was said and what was written instead, most frequent first{f', of {scored.name}' if several else ''}."


def utterances(systems: Sequence[Scored], clips: Mapping[str, bytes], without_audio: str, most_listed: int) -> Markup:
    """Return the list of the worst utterances; nothing where predictions were not kept."""
    scored = [system for system in systems if system.predictions]
    if not scored:
        return Markup("")
    listed = worst_first(scored, most_listed)
    remark = note(without_audio) if without_audio else Markup("")
    return remark + utterance_list(listed, scored, clips, total=len(scored[-1].predictions))
