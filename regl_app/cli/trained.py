"""What the commands share that use a finished run's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regl_app.core.errors import RunError

if TYPE_CHECKING:
    from regl_app.runs.folder import RunFolder
    from regl_app.runs.trained.model import TrainedModel

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
OfClient = Annotated[
    int | None,
    typer.Option(
        "--client",
        min=0,
        help="The model of this client, where each keeps a part of it (objective=fedrep); of a run "
        "of sites, deep greyscale as this one read it (predict, evaluate).",
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


def open_model(
    run: RunFolder, client: int | None, trust: bool, *, reads: bool = False
) -> TrainedModel:
    """Return the model of all clients, or that of one.

    Args:
        run: the finished run.
        client: whose model, None: all clients'.
        trust: whether code that the run names may be run.
        reads: pictures are to be read: where models are shared whole, ``client`` is the site by
            whose scales deep greyscale is read.

    Raises:
        ConfigError: it is code that cannot be imported.
        RunError: the run has no such model, or it is code and ``trust`` is not given; no such site
            told its scales.
    """
    from regl_app.config.external import method_choice
    from regl_app.flower.own_parts import own_part
    from regl_app.runs.depths import depths_of, site_name
    from regl_app.runs.trained.model import TrainedModel

    if client is None:
        return TrainedModel.of(run, trust=trust)
    objective = run.read_config().objective
    told = depths_of(None, run.read_history()) if reads else {}
    if not told or not method_choice(objective).shares_whole_model:
        return TrainedModel.of(run, own_part(run, client), client, trust=trust)
    if site_name(client) not in told:
        raise RunError(
            f"{run.path}: objective={objective!r} shares whole models, so --client says by whose "
            f"scales deep greyscale is read, got {client}; these were told by {', '.join(told)} "
            "(name one of them, or a rule: --depth of regl predict, data.depth of regl evaluate)"
        )
    return TrainedModel.of(run, None, client, trust=trust)
