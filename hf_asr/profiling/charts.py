"""The one chart that the house's page does not have: points with spread, pale ones, and lines that they stay below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hf_asr.evaluation.page import legend, plain
from hf_asr.evaluation.page_charts import NUMBER_OF_COLOURS
from hf_asr.evaluation.page_scale import Scale, make_scale

HEIGHT = 240


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a chart.

    Attributes:
        x: Place along x.
        y: Place along y.
        title: What is told when the pointer rests on it.
        low: Lower end of y's spread; None for none.
        high: Upper end.
        faint: Whether it is grey: another point is better.
    """

    x: float
    y: float
    title: str
    low: float | None = None
    high: float | None = None
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour.

    Attributes:
        name: For the legend.
        points: The points.
        joined: Whether a line goes through them.
        marks: Whether they are drawn as dots.
    """

    name: str
    points: Sequence[Point]
    joined: bool = False
    marks: bool = True


def chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_format: Callable[[float], str] = plain,
    x_format: Callable[[float], str] = plain,
    log_x: bool = False,
    log_y: bool = False,
) -> Markup:
    """Return a chart as a figure; nothing where there is no point.

    Args:
        series: What is drawn, in the palette's order.
        title: A line above: what y is.
        x_label: What x is.
        y_format: How a y is written.
        x_format: How an x is written.
        log_x: Whether x is logarithmic; what is not above 0 is then left out.
        log_y: Whether y is.
    """
    points = [point for one in series for point in one.points]
    if not points:
        return Markup("")
    x = make_scale([point.x for point in points], log=log_x, wanted=5)
    ends = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    y = make_scale(ends, log=log_y, zero=not log_y, wanted=5)
    drawn = Markup("").join(_series(one, place % NUMBER_OF_COLOURS, x, y) for place, one in enumerate(series))
    named = legend([one.name for one in series])
    caption = Markup("<figcaption><span>{}</span>{}</figcaption>").format(title, named)
    return Markup("<figure>{}{}</figure>").format(caption, _frame(drawn, x, y, title, x_label, x_format, y_format))


def _series(one: Series, colour: int, x: Scale, y: Scale) -> Markup:
    line = _line(one.points, colour, x, y) if one.joined and len(one.points) > 1 else Markup("")
    dots = Markup("").join(_dot(point, colour, x, y) for point in one.points) if one.marks else Markup("")
    return line + dots


def _line(points: Sequence[Point], colour: int, x: Scale, y: Scale) -> Markup:
    places = " ".join(f"{1000 * x(point.x):.1f},{HEIGHT * (1 - y(point.y)):.1f}" for point in points)
    return Markup(
        '<svg width="100%" height="{0}" viewBox="0 0 1000 {0}" preserveAspectRatio="none">'
        '<polyline class="l{1} curve" vector-effect="non-scaling-stroke" points="{2}"/></svg>'
    ).format(HEIGHT, colour, places)


def _dot(point: Point, colour: int, x: Scale, y: Scale) -> Markup:
    left, top = 100 * x(point.x), HEIGHT * (1 - y(point.y))
    spread = Markup("")
    if point.low is not None and point.high is not None:
        spread = Markup('<line class="{}" x1="{:.2f}%" x2="{:.2f}%" y1="{:.1f}" y2="{:.1f}"/>').format(
            "grid" if point.faint else f"l{colour}",
            left,
            left,
            HEIGHT * (1 - y(point.low)),
            HEIGHT * (1 - y(point.high)),
        )
    dot = Markup('<circle class="s{}"{} cx="{:.2f}%" cy="{:.1f}" r="{}"/>').format(
        colour, Markup(' opacity="0.25"') if point.faint else "", left, top, 4
    )
    return Markup("<g><title>{}</title>{}{}</g>").format(point.title, spread, dot)


def _frame(
    drawn: Markup,
    x: Scale,
    y: Scale,
    title: str,
    x_label: str,
    x_format: Callable[[float], str],
    y_format: Callable[[float], str],
) -> Markup:
    level = Markup('<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>')
    number = Markup('<text class="tick" x="46" y="{:.1f}" text-anchor="end">{}</text>')
    below = Markup('<text class="tick" x="{:.2f}%" y="{}" text-anchor="{}">{}</text>')
    levels = Markup("").join(level.format(HEIGHT * (1 - y(tick))) for tick in y.ticks)
    numbers = Markup("").join(number.format(HEIGHT * (1 - y(tick)) + 12, y_format(tick)) for tick in y.ticks)
    ticks = Markup("").join(
        below.format(100 * x(tick), HEIGHT + 16, _anchor(x(tick)), x_format(tick)) for tick in x.ticks
    )
    name = below.format(50.0, HEIGHT + 33, "middle", x_label)
    return Markup(
        '<div class="frame" role="img" aria-label="{0}"><svg class="yaxis" width="52" height="{1}">{2}</svg>'
        '<svg class="plot" height="{1}">{3}{4}{5}{6}</svg></div>'
    ).format(title, HEIGHT + 40, numbers, levels, drawn, ticks, name)


def _anchor(place: float) -> str:
    """Return how a tick's text stands to it: at the ends it would be cut off."""
    if place < 0.01:
        return "start"
    return "end" if place > 0.99 else "middle"
