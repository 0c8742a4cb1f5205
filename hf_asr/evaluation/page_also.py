"""The other sets on the page: what fine-tuning did to languages and domains it was not for."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from hf_asr.evaluation.guardrails import Guardrail, change, exceeded, rate_name, read_guardrails
from hf_asr.evaluation.page import Cell, join, note, table
from hf_asr.evaluation.page_charts import Bar, Row, interval_plot
from hf_asr.evaluation.page_run import Run
from hf_asr.evaluation.page_scale import per_cent, plain

HEAD = ("set", "language", "clips", "rate", "before", "after", "change", "limit")
LEAD = (
    "The same model under the same conditions on sets that it was not fine-tuned for. A rate that rose is what "
    "fine-tuning has cost there."
)


def other_sets(runs: Sequence[Run], names: Sequence[str], colours: Sequence[int]) -> Markup:
    """Return the other sets of each run: a plot of before and after, and all numbers; nothing where there are none.

    Args:
        runs: The runs.
        names: A name for each.
        colours: Palette index of before and of after.
    """
    return join(
        _of_run(found, name if len(runs) > 1 else "", colours)
        for run, name in zip(runs, names, strict=True)
        if (found := read_guardrails(run.folder))
    )


def _of_run(found: Sequence[Guardrail], name: str, colours: Sequence[int]) -> Markup:
    broken = exceeded(found)
    warning = Markup('<p class="finding">{}</p>').format(broken) if broken else Markup("")
    known = all(item.before is not None for item in found)
    rows = [Row(item.name, _bars(item, known), f"{rate_name(item.rate)}, {item.clips:,} clips") for item in found]
    series = ["before", "after"] if known else ["after"]
    plot = interval_plot(
        rows, series=series, title=name or "Other sets, 95 % intervals", colours=colours[-len(series) :]
    )
    silent = [item for item in found if item.words_per_minute is not None]
    return join(
        [warning, plot, table(HEAD, [_cells(item) for item in found], numbers=(2, 4, 5)), *map(_silence, silent)]
    )


def _bars(item: Guardrail, known: bool) -> list[Bar]:
    low, high = item.after_interval
    after = Bar(item.after, low, high, 1 if known else 0)
    return [Bar(item.before, None, None, 0), after] if known and item.before is not None else [after]


def _cells(item: Guardrail) -> list[object]:
    return [
        item.name,
        item.language,
        item.clips,
        rate_name(item.rate),
        None if item.before is None else Cell(per_cent(item.before), item.before),
        Cell(per_cent(item.after), item.after),
        None if item.difference is None else Cell(change(item), item.difference),
        None if item.limit is None else f"{item.limit:g} points",
    ]


def _silence(item: Guardrail) -> Markup:
    assert item.words_per_minute is not None, item
    numbers = " before, ".join(plain(value) for value in item.words_per_minute if value is not None)
    after = " after" if item.words_per_minute[0] is not None else ""
    return note(
        f"{item.name}: nobody speaks in these clips, so every word is invented: {numbers}{after}, in words a minute. "
        "They are made by formulas; recorded noise and music may be harder."
    )
