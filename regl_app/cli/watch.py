"""``regl watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from regl_app.cli.console import EXIT_FAILED, print_path
from regl_app.cli.console import out as console


def watch(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
) -> None:
    """Follow a run from another terminal until it ends; exit 1 if it fails.

    Ctrl-C ends the watching, not the run.

    Example: [bold]regl watch runs/regl-dpd-digits-s0[/bold]
    """
    from regl_app.runs.folder import RunFolder
    from regl_app.runs.watch import watch as follow

    folder = RunFolder.open(run)
    for line in follow(folder, interval=interval):
        console.print(Text(line), soft_wrap=True)
    if folder.report.is_file():
        print_path("report", folder.report)
    result = folder.read_result()
    if result is None or result.status != "finished":
        raise typer.Exit(EXIT_FAILED)
