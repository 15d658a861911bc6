"""What a figure is, and the two chart forms that several figures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from regl_app.runs.report.svg import Svg, ticks

WIDTH = 480.0
RUN_COLOURS = 8


@dataclass(frozen=True)
class Figure:
    """A picture with its title and a caption that says what to see in it."""

    id: str
    title: str
    caption: Markup
    body: Markup
    wide: bool = False


@dataclass(frozen=True)
class Absent:
    """A figure this run has no data for."""

    title: str
    reason: str


@dataclass(frozen=True)
class Series:
    """A line: ``points`` are (x, y), ``band`` is (x, low, high), ``colour`` is CSS."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    band: Sequence[tuple[float, float, float]] = ()
    dashed: bool = False


def run_colour(index: int) -> str:
    """Return the CSS colour of the run or condition at ``index``."""
    return f"var(--c{index % RUN_COLOURS})"


def scroll(picture: Markup) -> Markup:
    """Return a picture that keeps its natural width and scrolls inside its own box."""
    return Markup('<div class="scroll" tabindex="0">{}</div>').format(picture)


def legend(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """Return chips for (label, CSS colour, kind), kind being 'line', 'dash', 'box' or 'ring'."""
    chip = Markup('<span class="chip"><i class="{}" style="--k:{}"></i>{}</span>')
    chips = Markup("").join(chip.format(kind, colour, label) for label, colour, kind in entries)
    return Markup('<div class="legend">{}</div>').format(chips)


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    y_text: Callable[[float], str],
    y_range: tuple[float, float] | None = None,
    reference: tuple[float, str] | None = None,
    height: float = 270.0,
) -> Markup:
    """Return lines over rounds with optional bands and one dotted reference line."""
    svg = Svg(WIDTH, height)
    left, right, top, bottom = 44.0, 14.0, 12.0, 34.0
    rounds = sorted({x for one in series for x, _ in one.points})
    values = [y for one in series for _, y in one.points]
    values += [y for one in series for _, low, high in one.band for y in (low, high)]
    low, high = y_range or (min(values), max(values))
    y_ticks = ticks(low, high)
    low, high = y_ticks[0], y_ticks[-1]
    span = max(rounds[-1] - rounds[0], 1.0)

    def x_of(x: float) -> float:
        return left + (WIDTH - left - right) * (0.5 if len(rounds) == 1 else (x - rounds[0]) / span)

    def y_of(y: float) -> float:
        return top + (height - top - bottom) * (high - y) / (high - low)

    for tick in y_ticks:
        svg.add("line", x1=left, x2=WIDTH - right, y1=y_of(tick), y2=y_of(tick), class_="grid")
        svg.text(left - 7, y_of(tick) + 4, y_text(tick), "tick end")
    every = max(1, -(-len(rounds) // 11))
    for x in rounds[::every]:
        svg.text(x_of(x), height - bottom + 17, f"{x:g}", "tick mid")
    svg.text((left + WIDTH - right) / 2, height - 2, "round", "axis mid")
    if reference is not None and low <= reference[0] <= high:
        y = y_of(reference[0])
        svg.add("line", x1=left, x2=WIDTH - right, y1=y, y2=y, class_="reference")
        svg.text(left + 4, y - 4, reference[1], "tick")
    for one in series:
        if one.band:
            edge = [(x_of(x), y_of(up)) for x, _, up in one.band]
            edge += [(x_of(x), y_of(down)) for x, down, _ in reversed(one.band)]
            svg.polyline(edge, style=f"fill:{one.colour}", class_="band")
    for one in series:
        points = [(x_of(x), y_of(y)) for x, y in one.points]
        style = f"stroke:{one.colour}"
        svg.polyline(points, style=style, class_="line dashed" if one.dashed else "line")
        for (x, y), (cx, cy) in zip(one.points, points, strict=True):
            tip = f"{one.label}\nround {x:g}: {y_text(y)}"
            svg.add(
                "circle", cx=cx, cy=cy, r=3.2, style=f"fill:{one.colour}", class_="dot", tip=tip
            )
    return svg.render(label)


def heat_map(
    rows: Sequence[Sequence[float | None] | None],
    *,
    label: str,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    colour: Callable[[float], tuple[str, float]],
    text: Callable[[float], str] | None,
    tip: Callable[[int, int, float], str],
    x_title: str = "class",
    y_title: str = "client",
    cell: tuple[float, float] = (36.0, 26.0),
    totals: bool = False,
) -> Markup:
    """Return a matrix of coloured cells; ``colour(value)`` is (CSS colour, opacity 0..1).

    A None row or cell is hatched as unknown. ``totals`` adds each row's sum as a bar.
    """
    wide, tall = cell
    longest = max((len(name) for name in row_labels), default=1)
    left = 26.0 + min(6.2 * longest, 96.0)
    slanted = max((len(name) for name in column_labels), default=1) * 6.4 > wide
    head = 16.0 + (min(max(map(len, column_labels)), 14) * 5.0 if slanted else 8.0)
    extra = 76.0 if totals else 6.0
    columns = len(column_labels)
    svg = Svg(left + wide * columns + extra, head + tall * len(rows) + 24)
    for column, name in enumerate(column_labels):
        x = left + wide * (column + 0.5)
        if slanted:
            turn = f"rotate(-42 {x:.1f} {head - 6:.1f})"
            svg.text(x, head - 6, _clip(name, 14), "tick", transform=turn)
        else:
            svg.text(x, head - 6, name, "tick mid")
    sums = [sum(v or 0.0 for v in row) if row is not None else 0.0 for row in rows]
    largest = max([*sums, 1e-9])
    for index, row in enumerate(rows):
        y = head + tall * index
        svg.text(left - 7, y + tall / 2 + 4, _clip(row_labels[index], 15), "tick end")
        for column in range(columns):
            value = None if row is None or column >= len(row) else row[column]
            box = (left + wide * column + 0.75, y + 0.75, wide - 1.5, tall - 1.5)
            if value is None:
                svg.rect(box, rx=2.0, class_="unknown")
                continue
            css, opacity = colour(value)
            svg.rect(box, rx=2.0, class_="cell")
            style = f"fill:{css};fill-opacity:{opacity:.3f}"
            svg.rect(box, rx=2.0, style=style, tip=tip(index, column, value))
            if text is not None and (shown := text(value)):
                tone = "value mid on" if opacity > 0.55 else "value mid"
                svg.text(left + wide * (column + 0.5), y + tall / 2 + 4, shown, tone)
        if totals and row is not None:
            x = left + wide * columns + 8
            length = 30.0 * sums[index] / largest
            svg.rect((x, y + tall * 0.25, length, tall * 0.5), class_="sum")
            svg.text(x + length + 4, y + tall / 2 + 4, f"{sums[index]:.0f}", "tick")
    svg.text(left + wide * columns / 2, svg.height - 6, x_title, "axis mid")
    middle = head + tall * len(rows) / 2
    svg.text(11, middle, y_title, "axis mid", transform=f"rotate(-90 11 {middle:.1f})")
    return svg.render(label)


def caption(template: str, **values: object) -> Markup:
    """Return a caption in which ``{names}`` are replaced by escaped values."""
    return Markup(template).format(**{name: escape(value) for name, value in values.items()})


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
