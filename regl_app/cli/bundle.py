"""``regl bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from regl_app.cli.console import out, print_path


def bundle(
    folder: Annotated[Path, typer.Argument(help="Where to write it; made if absent.")] = Path(),
) -> None:
    """Write the app bundle that `regl run --superlink` submits, for nodes that run no other.

    A node's operator compares the digest and installs the file; docs/systemd/ has the units.
    `regl run --superlink` names the bundle that it submitted in its first line.

    Example: [bold]regl bundle ~/bundles[/bold]
    """
    from regl_app.flower.engines.app_bundle import write_bundle

    made = write_bundle(folder.expanduser())
    print_path("bundle", made.file)
    out.print(Text(f"sha256: {made.sha256}"), soft_wrap=True)
    out.print(Text(f"folder in $FLWR_HOME/apps: {made.installed_as}"), soft_wrap=True)
