"""Charts of a page as inline SVG that stretches with the page while its text keeps its size.

Positions along x are per cent of the width, so nothing is scaled: a chart of 1,000 pixels and one of 300 have the same
letters. Colours are classes (``s0`` to ``s7``, the palette of Okabe and Ito, "Color Universal Design", 2008, which
colour-blind readers can tell apart) that the style sheet fills for light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hf_asr.evaluation.page_scale import Format, Scale, make_scale, per_cent, plain, short_name

PLOT_HEIGHT = 170
# A curve of more points looks the same; each point costs 15 bytes.
MOST_POINTS = 600
NUMBER_OF_COLOURS = 8
MOST_TICKS = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval.

    Attributes:
        value: The value.
        low: Lower end of its interval; None for no interval.
        high: Upper end.
        series: Index of the series it belongs to; its colour.
        title: What is told when the pointer rests on it; by default the value with its interval.
    """

    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an interval plot or a bar chart.

    Attributes:
        label: Its name.
        bars: One value a series.
        note: A few words below the name, such as how many clips it stands for.
        faint: Whether it is shown pale: too small to be trusted.
    """

    label: str
    bars: Sequence[Bar]
    note: str = ""
    faint: bool = False


def interval_plot(
    rows: Sequence[Row],
    *,
    series: Sequence[str] = (),
    title: str = "",
    format: Format = per_cent,
    zero: bool = True,
    line: float | None = None,
    colours: Sequence[int] = (),
) -> Markup:
    """Return values as dots with whiskers, one row below the other, on one scale.

    Args:
        rows: What is shown.
        series: Names of the series, for the legend; none when there is only one.
        title: A line above.
        format: How a value is written.
        zero: Whether the scale begins at 0.
        line: A value marked by an upright line in all rows, such as the whole set's.
        colours: Palette index of each series; by default in order.
    """
    return _rows_plot(rows, _dot, series, title, format, zero, line, colours)


def bar_chart(
    rows: Sequence[Row],
    *,
    series: Sequence[str] = (),
    title: str = "",
    format: Format = per_cent,
    line: float | None = None,
    colours: Sequence[int] = (),
) -> Markup:
    """Return values as bars from 0, with whiskers where there is an interval; arguments as :func:`interval_plot`."""
    return _rows_plot(rows, _bar, series, title, format, True, line, colours)


def stacked_bars(
    rows: Sequence[tuple[str, Sequence[float]]],
    *,
    series: Sequence[str],
    title: str = "",
    format: Format = plain,
    colours: Sequence[int] = (),
) -> Markup:
    """Return bars made of parts, one row below the other.

    Args:
        rows: Name and one part a series.
        series: Names of the parts.
        title: A line above.
        format: How a value is written.
        colours: Palette index of each series; by default in order.
    """
    colours = colours or range(len(series))
    longest = max((sum(parts) for _, parts in rows), default=0) or 1
    body = []
    for name, parts in rows:
        left, pieces = 0.0, []
        for part, label, colour in zip(parts, series, colours, strict=True):
            width = 100 * part / longest
            pieces.append(
                Markup(
                    '<rect class="s{}" x="{:.2f}%" y="4" width="{:.2f}%" height="18"><title>{}</title></rect>'
                ).format(colour, left, width, f"{name}, {label}: {format(part)}")
            )
            left += width
        body.append(_grid_row(name, "", Markup("").join(pieces), 26, [format(sum(parts))], False))
    return _figure(title, legend(series, colours), Markup('<div class="rows">{}</div>').format(Markup("").join(body)))


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str = "",
    x_label: str = "",
    format: Format = plain,
    x_format: Format = plain,
    zero: bool = False,
    log_x: bool = False,
    log_y: bool = False,
    colours: Sequence[int] = (),
    marks: bool | None = None,
) -> Markup:
    """Return curves.

    Args:
        series: Name to points (x, y); points that are not finite are left out.
        title: A line above.
        x_label: What x is.
        format: How a y is written.
        x_format: How an x is written.
        zero: Whether y begins at 0.
        log_x: Whether x is logarithmic.
        log_y: Whether y is logarithmic.
        colours: Palette index of each series; by default in order.
        marks: Whether each point has a dot; by default where there are at most 40.
    """
    curves = {name: _thin(_finite(points, log_x, log_y)) for name, points in series.items()}
    x = make_scale([point[0] for points in curves.values() for point in points], log=log_x, wanted=4)
    x = Scale(*_ends(curves, x), x.ticks, log_x) if not log_x else x
    y = make_scale([point[1] for points in curves.values() for point in points], zero=zero, log=log_y, wanted=4)
    drawn = [
        _curve(name, points, x, y, colour, format, x_format, marks)
        for (name, points), colour in zip(curves.items(), colours or range(len(curves)), strict=True)
    ]
    named = legend(list(curves), colours or range(len(curves))) if len(curves) > 1 else Markup("")
    return _figure(title, named, _frame(Markup("").join(drawn), x, y, format, x_format, x_label, title))


def histogram(
    edges: Sequence[float],
    counts: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    x_label: str = "",
    format: Format = plain,
    x_format: Format = plain,
    colours: Sequence[int] = (),
) -> Markup:
    """Return upright bars over intervals of x, the series beside each other in each interval.

    Args:
        edges: Ends of the intervals, one more than there are counts.
        counts: Name of a series to its counts.
        title: A line above.
        x_label: What x is.
        format: How a count is written.
        x_format: How an edge is written.
        colours: Palette index of each series; by default in order.
    """
    ticks = [tick for tick in make_scale(edges, wanted=5).ticks if edges[0] <= tick <= edges[-1]]
    x = Scale(edges[0], edges[-1], ticks)
    y = make_scale([value for values in counts.values() for value in values], zero=True, wanted=4)
    colours = colours or range(len(counts))
    drawn = []
    for place, ((name, values), colour) in enumerate(zip(counts.items(), colours, strict=True)):
        for first, last, value in zip(edges, edges[1:], values, strict=False):
            width = 100 * (x(last) - x(first)) * 0.92 / len(counts)
            left = 100 * x(first) + 100 * (x(last) - x(first)) * 0.04 + place * width
            height = PLOT_HEIGHT * y(value)
            told = f"{name}, {x_format(first)} to {x_format(last)}: {format(value)}"
            drawn.append(
                Markup(
                    '<rect class="s{}" x="{:.2f}%" y="{:.1f}" width="{:.2f}%" height="{:.1f}"><title>{}</title></rect>'
                ).format(colour, left, PLOT_HEIGHT - height, width, height, told)
            )
    named = legend(list(counts), colours) if len(counts) > 1 else Markup("")
    return _figure(title, named, _frame(Markup("").join(drawn), x, y, format, x_format, x_label, title))


def legend(names: Sequence[str], colours: Sequence[int] = ()) -> Markup:
    """Return the names of series with their colours; nothing where there is no name."""
    item = Markup(
        '<span class="key"><svg width="12" height="12" aria-hidden="true">'
        '<rect class="s{}" width="12" height="12" rx="3"/></svg>{}</span>'
    )
    colours = colours or range(len(names))
    items = [item.format(colour % NUMBER_OF_COLOURS, name) for name, colour in zip(names, colours, strict=False)]
    return Markup('<div class="legend">{}</div>').format(Markup("").join(items)) if names else Markup("")


def _rows_plot(
    rows: Sequence[Row],
    draw: Callable[[Bar, int, Scale, float, str], Markup],
    series: Sequence[str],
    title: str,
    format: Format,
    zero: bool,
    line: float | None,
    colours: Sequence[int],
) -> Markup:
    values = [end for row in rows for bar in row.bars for end in (bar.value, bar.low, bar.high) if end is not None]
    scale = make_scale([*values, *([] if line is None else [line])], zero=zero, wanted=4)
    body = [_grid_row("", "", _ticks(scale, format), 18, [], False)]
    for row in rows:
        height = 18 * max(1, len(row.bars)) + 10
        marks = [_gridlines(scale)]
        if line is not None:
            marks.append(_upright("mark", scale(line)))
        for place, bar in enumerate(row.bars):
            colour = colours[bar.series] if colours else bar.series % NUMBER_OF_COLOURS
            marks.append(draw(bar, colour, scale, 14 + 18 * place, _told(row, bar, series, format)))
        written = [_written(bar, format) for bar in row.bars]
        body.append(_grid_row(row.label, row.note, Markup("").join(marks), height, written, row.faint))
    return _figure(title, legend(series, colours), Markup('<div class="rows">{}</div>').format(Markup("").join(body)))


def _grid_row(label: str, note: str, marks: Markup, height: float, written: Sequence[str], faint: bool) -> Markup:
    small = Markup(" <small>{}</small>").format(note) if note else ""
    numbers = Markup("").join(Markup("<span>{}</span>").format(text) for text in written)
    return Markup(
        '<div class="row{}"><span class="label" title="{}">{}{}</span>'
        '<svg class="strip" height="{}" aria-hidden="true">{}</svg><span class="numbers">{}</span></div>'
    ).format(" faint" if faint else "", label, short_name(label, 40), small, height, marks, numbers)


def _dot(bar: Bar, colour: int, scale: Scale, y: float, told: str) -> Markup:
    dot = Markup('<circle class="s{}" cx="{:.2f}%" cy="{}" r="5"/>').format(colour, 100 * scale(bar.value), y)
    return Markup("<g><title>{}</title>{}{}</g>").format(told, _whisker(bar, scale, y, f"l{colour}"), dot)


def _bar(bar: Bar, colour: int, scale: Scale, y: float, told: str) -> Markup:
    left, right = sorted((100 * scale(0.0), 100 * scale(bar.value)))
    box = Markup('<rect class="s{}" x="{:.2f}%" y="{}" width="{:.2f}%" height="14" rx="2"/>').format(
        colour, left, y - 7, right - left
    )
    return Markup("<g><title>{}</title>{}{}</g>").format(told, box, _whisker(bar, scale, y, "ink"))


def _whisker(bar: Bar, scale: Scale, y: float, kind: str) -> Markup:
    if bar.low is None or bar.high is None:
        return Markup("")
    low, high = 100 * scale(bar.low), 100 * scale(bar.high)
    flat = Markup('<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="{}" y2="{}"/>').format(kind, low, high, y, y)
    end = Markup('<line class="{0}" x1="{1:.2f}%" x2="{1:.2f}%" y1="{2}" y2="{3}"/>')
    return flat + end.format(kind, low, y - 4, y + 4) + end.format(kind, high, y - 4, y + 4)


def _told(row: Row, bar: Bar, series: Sequence[str], format: Format) -> str:
    name = f"{row.label}, {series[bar.series]}" if bar.series < len(series) else row.label
    return bar.title or f"{name}: {_written(bar, format)}"


def _written(bar: Bar, format: Format) -> str:
    if bar.low is None or bar.high is None:
        return format(bar.value)
    return f"{format(bar.value)} [{format(bar.low).removesuffix(' %')}, {format(bar.high).removesuffix(' %')}]"


def _ticks(scale: Scale, format: Format) -> Markup:
    text = Markup('<text class="tick" x="{:.2f}%" y="13" text-anchor="{}">{}</text>')
    # Beside long labels a chart is so narrow that five numbers touch.
    shown = scale.ticks if len(scale.ticks) <= MOST_TICKS else scale.ticks[::2]
    return Markup("").join(text.format(100 * scale(tick), _anchor(scale(tick)), _short(format(tick))) for tick in shown)


def _short(text: str) -> str:
    """Return a tick without the decimals that only say nothing: 10.0 % is 10 %."""
    return text.replace(".0 %", " %")


def _anchor(place: float) -> str:
    return "start" if place < 0.02 else "end" if place > 0.98 else "middle"


def _gridlines(scale: Scale) -> Markup:
    return Markup("").join(_upright("grid", scale(tick)) for tick in scale.ticks)


def _upright(kind: str, place: float) -> Markup:
    return Markup('<line class="{0}" x1="{1:.2f}%" x2="{1:.2f}%" y1="0" y2="100%"/>').format(kind, 100 * place)


def _frame(drawn: Markup, x: Scale, y: Scale, format: Format, x_format: Format, x_label: str, title: str) -> Markup:
    """Return a plot's frame: the numbers of y beside it, those of x below it."""
    height = PLOT_HEIGHT
    level = Markup('<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>')
    number = Markup('<text class="tick" x="46" y="{:.1f}" text-anchor="end">{}</text>')
    levels = Markup("").join(level.format(height * (1 - y(tick))) for tick in y.ticks)
    numbers = Markup("").join(number.format(height * (1 - y(tick)) + 12, _short(format(tick))) for tick in y.ticks)
    below = Markup('<text class="tick" x="{:.2f}%" y="{}" text-anchor="{}">{}</text>')
    ticks = Markup("").join(
        below.format(100 * x(tick), height + 16, _anchor(x(tick)), x_format(tick))
        for tick in x.ticks
        if -0.001 <= x(tick) <= 1.001
    )
    name = below.format(50.0, height + 33, "middle", x_label) if x_label else Markup("")
    return Markup(
        '<div class="frame" role="img" aria-label="{}"><svg class="yaxis" width="52" height="{}">{}</svg>'
        '<svg class="plot" height="{}">{}{}{}{}</svg></div>'
    ).format(title or x_label, height + 40, numbers, height + 40, levels, drawn, ticks, name)


def _curve(
    name: str,
    points: Sequence[tuple[float, float]],
    x: Scale,
    y: Scale,
    colour: int,
    format: Format,
    x_format: Format,
    marks: bool | None,
) -> Markup:
    places = [(1000 * x(first), PLOT_HEIGHT * (1 - y(second))) for first, second in points]
    path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    drawn = Markup(
        '<svg width="100%" height="{0}" viewBox="0 0 1000 {0}" preserveAspectRatio="none">'
        '<polyline class="l{1} curve" vector-effect="non-scaling-stroke" points="{2}"/></svg>'
    ).format(PLOT_HEIGHT, colour, path)
    if marks is False or (marks is None and len(points) > 40):
        return drawn
    dot = Markup('<circle class="s{}" cx="{:.2f}%" cy="{:.1f}" r="3.5"><title>{}</title></circle>')
    dots = [
        dot.format(colour, left / 10, top, f"{name}, {x_format(first)}: {format(second)}")
        for (left, top), (first, second) in zip(places, points, strict=True)
    ]
    return drawn + Markup("").join(dots)


def _figure(title: str, named: Markup, body: Markup) -> Markup:
    caption = Markup("<figcaption>{}{}</figcaption>").format(
        Markup("<span>{}</span>").format(title) if title else "", named
    )
    return Markup("<figure>{}{}</figure>").format(caption if title or named else "", body)


def _finite(points: Sequence[tuple[float, float]], log_x: bool, log_y: bool) -> list[tuple[float, float]]:
    return [
        (x, y)
        for x, y in points
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y)
    ]


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return evenly chosen points of a long curve, its last one among them."""
    if len(points) <= MOST_POINTS:
        return list(points)
    return [points[index * (len(points) - 1) // (MOST_POINTS - 1)] for index in range(MOST_POINTS)]


def _ends(curves: Mapping[str, Sequence[tuple[float, float]]], scale: Scale) -> tuple[float, float]:
    """Return the first and the last x, so that curves fill the width; the scale's own ends for a single x."""
    values = [x for points in curves.values() for x, _ in points]
    return (min(values), max(values)) if values and min(values) < max(values) else (scale.low, scale.high)
