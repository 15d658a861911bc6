"""``regl report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import print_path
from regl_app.cli.endings import check_file


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file; default: in the run's folder, or runs/report.html."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for every figure as SVG and PNG, and its numbers as CSV; PNG needs the "
            "extra 'figures'.",
        ),
    ] = None,
) -> None:
    """Rebuild a run's report.html, or lay several runs side by side in one file.

    Example: [bold]regl report runs/fedavg-digits-s0 runs/regl-digits-s0 --out both.html[/bold]

    With [bold]--figures figures[/bold] every figure is also a picture for a paper or a slide.
    """
    check_file("--out", out)
    from regl_app.runs.report.build import build_report

    if out is None:
        out = (runs[0] if len(runs) == 1 else runs[0].parent) / "report.html"
    print_path("report", build_report(runs, out, figures))
    if figures is not None:
        print_path("figures", figures)
