"""``regl keys``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import print_path


def keys(
    folder: Annotated[Path, typer.Argument(help="Where they are kept; made if absent.")],
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address under which nodes reach the SuperLink; repeatable."),
    ] = None,
    node: Annotated[
        list[str] | None, typer.Option(help="Name of a SuperNode to make a key for; repeatable.")
    ] = None,
) -> None:
    """Make a federation's certificates, its nodes' keys and the gate's configuration.

    By openssl and ssh-keygen; the gate is nginx before the SuperLink.

    Nothing that exists is replaced: call it again, without --host, to add nodes. Where each file
    has to go stands in docs/deploy.md.

    Example: [bold]regl keys ~/federation --host fl.example.org --node clinic-a
    --node clinic-b[/bold]
    """
    from regl_app.flower.deployment.credentials import make_credentials

    _, new = make_credentials(folder.expanduser(), host or [], node or [])
    for path in new:
        print_path("made", path)
    if not new:
        print_path("everything is there already", folder)
