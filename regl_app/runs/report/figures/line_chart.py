"""Lines over rounds, with bands and one reference line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from regl_app.runs.report.axes import Axes
from regl_app.runs.report.figures.base import WIDTH
from regl_app.runs.report.figures.numbers import Numbers
from regl_app.runs.report.svg import Svg, ticks

_MOST_ROUNDS_NAMED = 11
_MANY_ROUNDS = 50


@dataclass(frozen=True)
class Series:
    """A line: ``points`` are (x, y), ``band`` is (x, low, high), ``colour`` is CSS.

    ``kind`` is 'dash' or one of ``RUN_LINES``. The points at ``ringed`` are drawn larger.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    band: Sequence[tuple[float, float, float]] = ()
    kind: str = "line"
    ringed: float | None = None


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    y_text: Callable[[float], str],
    y_range: tuple[float, float] | None = None,
    reference: tuple[float, str] | None = None,
    mark: tuple[float, str] | None = None,
    height: float = 270.0,
) -> Markup:
    """Return lines over rounds with optional bands, a dotted level and a dotted, named round."""
    values = [y for one in series for _, y in one.points]
    values += [y for one in series for _, low, high in one.band for y in (low, high)]
    svg = Svg(WIDTH, height)
    low, high = y_range or (min(values), max(values))
    axes = Axes(svg, ticks(low, high), left=44.0, right=14.0, top=12.0, bottom=34.0)
    axes.rising(y_text, gap=7.0)
    x_of = _rounds(axes, sorted({x for one in series for x, _ in one.points}))
    axes.title("round")
    if reference is not None and axes.marks[0] <= reference[0] <= axes.marks[-1]:
        axes.level(reference[0], "reference")
        svg.text(axes.left + 4, axes.y(reference[0]) - 4, reference[1], "tick")
    if mark is not None:
        there = [axes.share(y) for one in series for x, y in one.points if x == mark[0]]
        _mark(axes, x_of(mark[0]), mark[1], above=sum(there) < len(there) / 2)
    for one in series:
        if one.band:
            edge = [(x_of(x), axes.y(up)) for x, _, up in one.band]
            edge += [(x_of(x), axes.y(down)) for x, down, _ in reversed(one.band)]
            svg.polyline(edge, style=f"fill:{one.colour}", class_="band")
    for one in series:
        points = [(x_of(x), axes.y(y)) for x, y in one.points]
        style = f"stroke:{one.colour}"
        svg.polyline(
            points, style=style, class_="line" if one.kind == "line" else f"line {one.kind}"
        )
        # The rims of many would hide the line; they still tell on hovering.
        dots = "dot" if len(points) < _MANY_ROUNDS else "dot quiet"
        for (x, y), (cx, cy) in zip(one.points, points, strict=True):
            tip = f"{one.label}\nround {x:g}: {y_text(y)}"
            dot = f"fill:{one.colour}"
            if x == one.ringed:
                ring = f"stroke:{one.colour};stroke-width:1.6;fill:none"
                svg.add("circle", cx=cx, cy=cy, r=6.5, style=ring)
            svg.add("circle", cx=cx, cy=cy, r=3.2, style=dot, class_=dots, tip=tip)
    return svg.render(label)


def line_numbers(series: Sequence[Series]) -> Numbers:
    """Return a row per point of each line; low and high are its band's, None without one."""
    rows = []
    for one in series:
        bands = {x: (low, high) for x, low, high in one.band}
        rows += [(one.label, x, y, *bands.get(x, (None, None))) for x, y in one.points]
    return Numbers.of(("line", "round", "value", "low", "high"), rows)


def _rounds(axes: Axes, rounds: Sequence[float]) -> Callable[[float], float]:
    """Name the rounds below the plot and return where each lies; a lone one is in the middle."""
    span = max(rounds[-1] - rounds[0], 1.0)

    def x_of(x: float) -> float:
        return axes.left + axes.width * (0.5 if len(rounds) == 1 else (x - rounds[0]) / span)

    every = max(1, -(-len(rounds) // _MOST_ROUNDS_NAMED))
    for x in rounds[::every]:
        axes.svg.text(x_of(x), axes.bottom + 17, f"{x:g}", "tick mid")
    return x_of


def _mark(axes: Axes, x: float, text: str, above: bool) -> None:
    """Draw an upright line, its name beside it in that end of the plot where no line passes."""
    svg = axes.svg
    svg.add("line", x1=x, x2=x, y1=axes.top, y2=axes.bottom, class_="mark")
    left = x > (axes.left + axes.right) / 2
    y = axes.top + 13 if above else axes.bottom - 6
    svg.text(x + (-5 if left else 5), y, text, "tick end" if left else "tick")
