"""One page about a run, a corpus or a measurement: a single HTML file that needs no network, in the house's style.

A page is made of sections; what stands in them comes from the helpers here and in ``page_charts``. Every text is
escaped by MarkupSafe unless it is :class:`markupsafe.Markup` already, so a reference, a speaker or a run's name is
never read as HTML. The page's own Content-Security-Policy allows its one style sheet and its one script, by their
hashes, and pictures and sound inside the file; everything else, a request to any host included, is refused by the
browser. Style attributes are refused too: use the classes of ``house/style.css``.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup, escape

from hf_asr.evaluation.page_charts import (
    Bar,
    Row,
    bar_chart,
    histogram,
    interval_plot,
    legend,
    line_chart,
    stacked_bars,
)
from hf_asr.evaluation.page_scale import per_cent, plain

__all__ = [
    "Bar",
    "Cell",
    "Row",
    "Section",
    "Tile",
    "bar_chart",
    "columns",
    "details",
    "facts",
    "histogram",
    "interval_plot",
    "join",
    "json_script",
    "legend",
    "line_chart",
    "note",
    "paragraph",
    "per_cent",
    "picture",
    "plain",
    "player",
    "render_page",
    "stacked_bars",
    "table",
    "tiles",
]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with a heading that its menu leads to.

    Attributes:
        id: Anchor, letters and hyphens.
        title: Heading.
        body: What stands in it.
        lead: One or two sentences under the heading; empty for none.
    """

    id: str
    title: str
    body: Markup
    lead: str | Markup = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """A large number with its name.

    Attributes:
        label: What it is.
        value: The number as a person reads it.
        detail: A line below: its interval, what it was before.
        tone: ``good`` or ``bad`` colours the detail; empty for neither.
    """

    label: str
    value: str
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table whose order is not that of its text.

    Attributes:
        text: What is shown.
        sort: What it is sorted by; None sorts last.
    """

    text: str | Markup
    sort: float | str | None = None


def render_page(
    title: str,
    sections: Sequence[Section],
    *,
    eyebrow: str = "hf_asr",
    subtitle: str | Markup = "",
    hero: str | Markup = "",
    footer: str = "",
    language: str = "en",
) -> str:
    """Return a whole page as HTML.

    Args:
        title: Its heading, and the window's.
        sections: Its parts, in order; those with an empty body are left out.
        eyebrow: A few words above the heading: which kind of page it is.
        subtitle: One sentence below the heading.
        hero: What stands above the first section, such as :func:`tiles`.
        footer: One sentence at the end: what made the page, from what.
        language: Language of the page's own words (its texts may be in any).
    """
    style, script = _part("style.css"), _part("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            title=title,
            sections=[section for section in sections if section.body],
            eyebrow=eyebrow,
            subtitle=subtitle,
            hero=hero,
            footer=footer,
            language=language,
            policy=policy,
            style=Markup(style),
            script=Markup(script),
        )
    )


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    numbers: Sequence[int] = (),
    caption: str = "",
    sortable: bool = True,
) -> Markup:
    """Return a table; with a script its columns can be sorted by their heads.

    Args:
        head: Name of each column.
        rows: Cells: texts, ``Markup``, numbers or :class:`Cell`; None is shown as a dash.
        numbers: Indices of the columns that are set flush right.
        caption: A line above.
        sortable: Whether the heads are buttons.
    """
    right = set(numbers)
    heads = join(
        Markup('<th scope="col"{}>{}</th>').format(
            Markup(' class="num"') if index in right else "",
            Markup('<button type="button">{}</button>').format(name) if sortable and name else name,
        )
        for index, name in enumerate(head)
    )
    body = join(
        Markup("<tr>{}</tr>").format(join(_cell(cell, i in right) for i, cell in enumerate(row))) for row in rows
    )
    return Markup('<div class="scroll"><table{}>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        Markup(" data-sortable") if sortable else "",
        Markup("<caption>{}</caption>").format(caption) if caption else "",
        heads,
        body,
    )


def tiles(items: Sequence[Tile]) -> Markup:
    """Return large numbers beside each other."""
    one = Markup('<div class="tile"><dt>{}</dt><dd class="value">{}</dd>{}</div>')
    detail = Markup('<dd class="detail {}">{}</dd>')
    return Markup('<dl class="tiles">{}</dl>').format(
        join(one.format(i.label, i.value, detail.format(i.tone, i.detail) if i.detail else "") for i in items)
    )


def facts(pairs: Sequence[tuple[str, Any]]) -> Markup:
    """Return names with their values, one a line."""
    line = Markup("<div><dt>{}</dt><dd>{}</dd></div>")
    return Markup('<dl class="facts">{}</dl>').format(join(line.format(name, value) for name, value in pairs))


def columns(parts: Sequence[Markup], *, wide: bool = False) -> Markup:
    """Return parts beside each other where there is room, below each other on a phone."""
    cells = join(Markup('<div class="cell">{}</div>').format(part) for part in parts if part)
    return Markup('<div class="columns{}">{}</div>').format(" wide" if wide else "", cells)


def details(summary: str, body: Markup, *, opened: bool = False) -> Markup:
    """Return something that is folded until it is asked for."""
    return Markup("<details{}><summary>{}</summary>{}</details>").format(
        Markup(" open") if opened else "", summary, body
    )


def paragraph(text: str | Markup) -> Markup:
    """Return a paragraph."""
    return Markup("<p>{}</p>").format(text)


def note(text: str | Markup) -> Markup:
    """Return a small remark: how something was counted, what is not shown."""
    return Markup('<p class="note">{}</p>').format(text)


def player(audio: bytes, media_type: str = "audio/ogg") -> Markup:
    """Return a player of encoded audio that lies in the page."""
    return Markup('<audio controls preload="metadata" src="{}"></audio>').format(_data_address(audio, media_type))


def picture(data: bytes, description: str, media_type: str = "image/png") -> Markup:
    """Return a picture that lies in the page.

    Args:
        data: The file's bytes.
        description: What is to be seen, for who does not see it.
        media_type: Its type.
    """
    return Markup('<img alt="{}" src="{}">').format(description, _data_address(data, media_type))


def json_script(id: str, value: Any) -> Markup:
    """Return a value as JSON that the page's script, or whoever saves the page, can read.

    No text in it ends the element: ``<``, ``>`` and ``&`` are written as JSON escapes.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup('<script type="application/json" id="{}">{}</script>').format(id, Markup(text))


def join(parts: Any) -> Markup:
    """Return parts one after the other, those that are plain text escaped."""
    return Markup("").join(parts)


def _cell(cell: Any, right: bool) -> Markup:
    attributes = Markup(' class="num"') if right else Markup("")
    if isinstance(cell, Cell):
        sort = "" if cell.sort is None else cell.sort
        return Markup('<td{} data-sort="{}">{}</td>').format(attributes, sort, cell.text)
    if cell is None:
        return Markup('<td{} data-sort="">–</td>').format(attributes)
    if isinstance(cell, int | float):
        return Markup('<td{} data-sort="{}">{}</td>').format(attributes, cell, plain(cell))
    return Markup("<td{}>{}</td>").format(attributes, escape(cell))


def _data_address(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hf_asr.evaluation", "house"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


@functools.cache
def _part(name: str) -> str:
    """Return a file of the house's style with line feeds only, as a browser hashes it."""
    environment = _environment()
    assert environment.loader is not None
    return "\n" + environment.loader.get_source(environment, name)[0].replace("\r\n", "\n")
