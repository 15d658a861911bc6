"""``regl doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from regl_app.cli.console import EXIT_FAILED
from regl_app.cli.console import out as console
from regl_app.cli.doctor.finding import Finding
from regl_app.cli.options import ConfigFile, Settings, resolve
from regl_app.core.errors import ConfigError

_STYLES = {"ok": "green", "note": "yellow", "fail": "bold red"}
_PANEL = "Deployment"


def doctor(
    settings: Settings = None,
    config: ConfigFile = None,
    time: Annotated[
        bool,
        typer.Option(
            "--time",
            help="Load the generator, time a few steps of it (up to a minute or two) and count "
            "its memory.",
        ),
    ] = False,
    superlink: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Look at the way to this SuperLink: name, port, TLS, clock, version.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    root_certificates: Annotated[
        Path | None,
        typer.Option(help="The federation's ca.crt.", rich_help_panel=_PANEL),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="It speaks plain HTTP.", rich_help_panel=_PANEL)
    ] = False,
    keys: Annotated[
        Path | None,
        typer.Option(help="Look at a folder made by `regl keys`.", rich_help_panel=_PANEL),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="This node's private key.", rich_help_panel=_PANEL)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Must be free here; a SuperNode's is 9094.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="This node's state-dir.", rich_help_panel=_PANEL)
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="This node's data-dir.", rich_help_panel=_PANEL)
    ] = None,
    data_root: Annotated[
        str,
        typer.Option(
            help="This node's data-root, folders joined by ':'; without it --data-dir alone.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = "",
) -> None:
    """Tell what this machine has of what a run needs; exit 1 if something is missing.

    With an option of a deployment it looks at that instead of a run on this machine.

    Examples: [bold]regl doctor data.source=mnist data.path=~/data[/bold]
    [bold]regl doctor --superlink fl.example.org:8000 --root-certificates ca.crt[/bold]
    """
    resolved = resolve(settings, config)
    from regl_app.cli.doctor.link import Link
    from regl_app.cli.doctor.machine import examine
    from regl_app.cli.doctor.node import Deployment, examine_deployment

    if not superlink and (root_certificates or insecure):
        raise ConfigError("--root-certificates and --insecure belong to --superlink HOST:PORT")
    link = Link.parse(superlink, root_certificates, insecure) if superlink else None
    if data_root and data_dir is None:
        raise ConfigError("--data-root belongs to --data-dir FOLDER")
    wanted = Deployment(link, keys, key, port, state_dir, data_dir, data_root)
    if wanted:
        findings = list(examine_deployment(wanted, resolved))
    else:
        with console.status("looking; a large generator's memory takes a minute to count"):
            findings = examine(resolved, counted=not time)  # that counts it by itself
    if time:
        from regl_app.cli.doctor.pace import expected_time

        findings += expected_time(resolved)
    _print(findings)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _print(findings: Sequence[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        style = _STYLES[finding.status]
        # Text, not markup: paths and versions may hold brackets.
        detail = Text(finding.detail, overflow="fold")
        if finding.remedy:
            detail.append(f"\n{finding.remedy}", style="italic")
        table.add_row(Text(finding.status, style=style), Text(finding.topic), detail)
    console.print(table)
