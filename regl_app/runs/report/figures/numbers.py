"""The numbers behind a figure, as a table whose every row says what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Cell = str | int | float | None


@dataclass(frozen=True)
class Numbers:
    """A table of named columns; None in a row is what is not known."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Numbers:
        """Return the table of ``rows``, each as long as ``columns``."""
        return cls(tuple(columns), tuple(tuple(row) for row in rows))


def matrix_numbers(
    panels: Iterable[tuple[Cell, Sequence[Sequence[Cell] | None]]],
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str],
    names: tuple[str, str, str, str] = ("round", "client", "class", "value"),
) -> Numbers:
    """Return a row for each cell of each of ``panels``, (what it is, matrix).

    ``rows`` and ``columns`` name those of the matrices, rows by their number if they are not
    given; ``names`` are the table's columns. A row that is None has no cells.
    """
    found: list[tuple[Cell, ...]] = []
    for panel, matrix in panels:
        for index, row in enumerate(matrix):
            who: Cell = index if rows is None else rows[index]
            found += [
                (panel, who, columns[place], value)
                for place, value in enumerate(row or ())
                if place < len(columns)
            ]
    return Numbers.of(names, found)
