"""``regl pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import print_path
from regl_app.progress import setup_logging


def pretrain(
    out: Annotated[Path, typer.Option(help="Folder that receives the pipeline.")] = (
        Path("generator")
    ),
) -> None:
    """Make the bundled generator again, from glyphs of freely licensed fonts.

    The result is used by generator.path=FOLDER.
    """
    setup_logging()
    from regl_app.generator.pretrain import pretrain as run_pretraining

    print_path("pipeline", run_pretraining(out))
