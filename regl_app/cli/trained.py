"""What the commands share that use a finished run's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from regl_app.runs.folder import RunFolder
    from regl_app.runs.trained.model import TrainedModel

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
OfClient = Annotated[
    int | None,
    typer.Option(
        "--client",
        min=0,
        help="The model of this client, where each keeps a part of it (objective=fedrep).",
        show_default=False,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Import and run the code that the run's config.json names (model.name="
        "package.module:Class), where it names any.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]


def open_model(run: RunFolder, client: int | None, trust: bool) -> TrainedModel:
    """Return the model of all clients, or that of one.

    Raises:
        ConfigError: it is code that cannot be imported.
        RunError: the run has no such model, or it is code and ``trust`` is not given.
    """
    from regl_app.flower.own_parts import own_part
    from regl_app.runs.trained.model import TrainedModel

    if client is None:
        return TrainedModel.of(run, trust=trust)
    return TrainedModel.of(run, own_part(run, client), client, trust=trust)
