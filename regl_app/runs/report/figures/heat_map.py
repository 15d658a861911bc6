"""A matrix of coloured cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from regl_app.runs.report.svg import Box, Svg

Rows = Sequence[Sequence[float | None] | None]
Paint = tuple[str, float]


def heat_map(
    rows: Rows,
    *,
    label: str,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    colour: Callable[[float], Paint],
    text: Callable[[float], str] | None,
    tip: Callable[[int, int, float], str],
    x_title: str = "class",
    y_title: str = "client",
    cell: tuple[float, float] = (36.0, 26.0),
    totals: Sequence[float | None] | None = None,
    shade: Callable[[int, int, float], Paint] | None = None,
    name_every: int = 1,
) -> Markup:
    """Return a matrix of coloured cells; ``colour(value)`` is (CSS colour, opacity 0..1).

    ``shade(row, column, value)`` is asked instead where a cell's place matters.

    Only every ``name_every``-th column is named.

    A None row or cell is hatched as unknown. ``totals`` adds a bar to each row that has one.
    """
    wide, tall = cell
    columns = len(column_labels)
    slanted = max((len(name) for name in column_labels), default=1) * 6.4 > wide * name_every
    grid = _Grid(
        left=26.0 + min(6.2 * max((len(name) for name in row_labels), default=1), 96.0),
        head=16.0 + (min(max(map(len, column_labels)), 14) * 5.0 if slanted else 8.0),
        wide=wide,
        tall=tall,
    )
    right, foot = grid.left + wide * columns, grid.head + tall * len(rows)
    svg = Svg(right + (76.0 if totals is not None else 6.0), foot + 24)
    _name_columns(svg, grid, column_labels, slanted, name_every)
    largest = max([*(total or 0.0 for total in totals or ()), 1e-9])
    for index, row in enumerate(rows):
        middle = grid.middle(index)
        svg.text(grid.left - 7, middle + 4, _clip(row_labels[index], 15), "tick end")
        for column in range(columns):
            value = None if row is None or column >= len(row) else row[column]
            box = grid.box(index, column)
            if value is None:
                svg.rect(box, rx=2.0, class_="unknown")
                continue
            css, opacity = colour(value) if shade is None else shade(index, column, value)
            svg.rect(box, rx=2.0, class_="cell")
            style = f"fill:{css};fill-opacity:{opacity:.3f}"
            svg.rect(box, rx=2.0, style=style, tip=tip(index, column, value))
            if text is not None and (shown := text(value)):
                tone = "value mid on" if opacity > 0.55 else "value mid"
                svg.text(grid.centre(column), middle + 4, shown, tone)
        if totals is not None and (total := totals[index]) is not None:
            length = 30.0 * total / largest
            svg.rect((right + 8, middle - tall * 0.25, length, tall * 0.5), class_="sum")
            svg.text(right + 8 + length + 4, middle + 4, f"{total:.0f}", "tick")
    svg.text((grid.left + right) / 2, svg.height - 6, x_title, "axis mid")
    middle = (grid.head + foot) / 2
    svg.text(11, middle, y_title, "axis mid", transform=f"rotate(-90 11 {middle:.1f})")
    return svg.render(label)


@dataclass(frozen=True)
class _Grid:
    """Where the cells lie: their upper left corner and their size, in the picture's units."""

    left: float
    head: float
    wide: float
    tall: float

    def box(self, row: int, column: int) -> Box:
        """Return a cell's rectangle, a little smaller than its place."""
        x, y = self.left + self.wide * column, self.head + self.tall * row
        return (x + 0.75, y + 0.75, self.wide - 1.5, self.tall - 1.5)

    def centre(self, column: int) -> float:
        """Return the middle of a column."""
        return self.left + self.wide * (column + 0.5)

    def middle(self, row: int) -> float:
        """Return the middle of a row."""
        return self.head + self.tall * row + self.tall / 2


def _name_columns(svg: Svg, grid: _Grid, names: Sequence[str], slanted: bool, every: int) -> None:
    y = grid.head - 6
    for column, name in list(enumerate(names))[::every]:
        x = grid.centre(column)
        if slanted:
            svg.text(x, y, _clip(name, 14), "tick", transform=f"rotate(-42 {x:.1f} {y:.1f})")
        else:
            svg.text(x, y, name, "tick mid")


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
