"""The part of a large matrix that is drawn: a report with every cell would be too large."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from regl_app.runs.report.figures.heat_map import Rows

MOST_CELLS = 10_000
"""Of all panels of a figure together: each is some 300 bytes of the page."""


@dataclass(frozen=True)
class Part:
    """The rows and columns that are drawn, ascending; ``words`` is the sentence that says so."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    words: str

    def of(self, matrix: Rows) -> Rows:
        """Return the part of ``matrix``; what it does not have is None."""
        chosen = [matrix[row] if row < len(matrix) else None for row in self.rows]
        return [
            None
            if row is None
            else [row[column] if column < len(row) else None for column in self.columns]
            for row in chosen
        ]


def part_of(
    rows: int,
    columns: int,
    *,
    panels: int = 1,
    most_columns: int | None = None,
    names: tuple[str, str] = ("clients", "classes"),
) -> Part:
    """Return what is drawn of a matrix: all where it is little, else an evenly spread part.

    Args:
        rows: how many it has.
        columns: how many it has.
        panels: of as many such matrices in one figure.
        most_columns: that are drawn; None: as many as cells allow.
        names: of what rows and columns are, for the sentence that says which are shown.
    """
    most = max(MOST_CELLS // max(panels, 1), 1)
    wide = min(columns, most_columns or columns)
    tall = rows
    if tall * wide > most:
        side = int(most**0.5)
        wide = min(wide, max(side, most // max(tall, 1)))
        tall = min(tall, max(most // wide, 1))
    said = [
        f"{few} of {all_} {name}"
        for few, all_, name in ((tall, rows, names[0]), (wide, columns, names[1]))
        if few < all_
    ]
    words = f" Shown are {' and '.join(said)}, evenly spread." if said else ""
    return Part(tuple(_spread(rows, tall)), tuple(_spread(columns, wide)), words)


def _spread(count: int, few: int) -> Iterable[int]:
    if few >= count:
        return range(count)
    return (index * (count - 1) // max(few - 1, 1) for index in range(few))


def picked(drawn: Sequence[int], names: Sequence[str]) -> list[str]:
    """Return the names of the rows, or columns, of a part that are ``drawn``."""
    return [names[index] for index in drawn]
