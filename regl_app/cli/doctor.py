"""``regl doctor``."""

from __future__ import annotations

import typer
from rich.table import Table
from rich.text import Text

from regl_app.cli.console import EXIT_FAILED
from regl_app.cli.console import out as console
from regl_app.cli.settings import ConfigFile, Settings, resolve

_STYLES = {"ok": "green", "note": "yellow", "fail": "bold red"}


def doctor(settings: Settings = None, config: ConfigFile = None) -> None:
    """Tell what this machine has of what a run needs; exit 1 if something is missing.

    Example: [bold]regl doctor data.source=mnist data.path=~/data[/bold]
    """
    resolved = resolve(settings, config)
    from regl_app.doctor import examine

    findings = examine(resolved)
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        style = _STYLES[finding.status]
        # Text, not markup: paths and versions may hold brackets.
        detail = Text(finding.detail, overflow="fold")
        if finding.remedy:
            detail.append(f"\n{finding.remedy}", style="italic")
        table.add_row(Text(finding.status, style=style), Text(finding.topic), detail)
    console.print(table)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(EXIT_FAILED)
