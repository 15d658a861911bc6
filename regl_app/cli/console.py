"""What all commands share: output, log lines, and errors as one clear message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from regl_app.core.errors import ConfigError, ReglError
from regl_app.core.files import why_not_written

out = Console()
err = Console(stderr=True)

EXIT_FAILED = 1
EXIT_USAGE = 2


class ReglGroup(TyperGroup):
    """Prints this package's own errors without a traceback and exits 2 (usage) or 1."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the sub-command."""
        try:
            return super().invoke(ctx)
        except ReglError as error:
            err.print(Text(f"Error: {error}", style="bold red"), soft_wrap=True)
            ctx.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)
        except OSError as error:
            why = why_not_written(error)
            if why is None:
                raise
            err.print(
                Text(f"Error: {error.filename or 'a file'}: {why}", style="bold red"),
                soft_wrap=True,
            )
            ctx.exit(EXIT_FAILED)


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None
) -> None:
    """Print a table whose first column is text and whose others are figures.

    One that is too wide for the terminal is turned on its side, where that makes it narrower.
    """
    lines = [header, *rows]
    table = _table(lines, title)
    # Rich breaks words where it is a column's padding short of what it says it needs.
    needed = table.__rich_measure__(out, out.options).minimum + len(header)
    if needed > out.width and len(lines) < len(header):
        table = _table(list(zip(*lines, strict=True)), title)
    out.print(table)


def _table(lines: Sequence[Sequence[str]], title: str | None) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(lines[0]):
        # Names of data sets and classes are shown as they are, square brackets included.
        table.add_column(Text(name), justify="right" if index else "left", overflow="fold")
    for row in lines[1:]:
        table.add_row(*map(Text, row))
    return table


def print_path(label: str, path: Path) -> None:
    """Print a path on one line, unbroken, so that it can be copied."""
    out.print(Text(f"{label}: {path}"), soft_wrap=True)
