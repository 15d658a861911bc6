"""``regl run``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from click.core import ParameterSource

from regl_app.cli.console import print_path
from regl_app.cli.options import ClientCpus, ClientGpus, ConfigFile, Settings, resolve
from regl_app.cli.summary import print_summary
from regl_app.config import RunConfig
from regl_app.config.model_name import is_own_module
from regl_app.config.parsing import parse_settings
from regl_app.core.errors import ConfigError
from regl_app.core.log import setup_logging
from regl_app.flower.engines.engine import EngineName, make_engine

# What says how nodes are simulated; a SuperLink's nodes are there already.
_OF_SIMULATIONS = ("clients", "engine", "client_cpus", "client_gpus")

MaybeClients = Annotated[
    int | None,
    typer.Option(
        "--clients", "-n", min=1, help="Number of clients; default 10.", show_default=False
    ),
]


def run(
    context: typer.Context,
    settings: Settings = None,
    clients: MaybeClients = None,
    config: ConfigFile = None,
    engine: Annotated[EngineName, typer.Option(help="Flower's runtime, or faster without.")] = (
        EngineName.FLWR
    ),
    client_cpus: ClientCpus = 1,
    client_gpus: ClientGpus = 0.0,
    superlink: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Run on this SuperLink of Flower's configuration and the nodes it has, instead of "
            "simulated ones; paths are those of the machines that read them.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Folder of an interrupted run to go on with.", show_default=False),
    ] = None,
) -> None:
    """Run one federation; exit 0 only if it finished and learned.

    KEY=VALUE: any key of docs/configuration.md.
    Example: [bold]regl run method=regl partition.beta=0.01 rounds=5[/bold]
    """
    if resume is None:
        resolved, total = resolve(settings, config), clients or 10
    else:
        resolved, total = _resumed(resume, settings, config, clients)
    setup_logging()
    if superlink is not None:
        _refuse_simulation_options(context)
        _submit(resolved, superlink)
        return
    execute = make_engine(engine, client_cpus=client_cpus, client_gpus=client_gpus)
    print_summary(execute(resolved, total))


def _refuse_simulation_options(context: typer.Context) -> None:
    given = [
        f"--{name.replace('_', '-')}"
        for name in _OF_SIMULATIONS
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot be given with --superlink: the nodes are those connected "
            "to it (server.min-nodes waits for them)"
        )


def _submit(config: RunConfig, superlink: str) -> None:
    from regl_app.flower.engines.flower_run import run_deployed

    folder = run_deployed(config, superlink)
    try:
        here = (folder / "result.json").is_file()
    except OSError:  # it is, and the SuperLink's user's alone
        here = False
    if here:
        print_summary(folder)
    else:
        print_path("run folder, on the SuperLink's machine", folder)


def _resumed(
    run: Path, settings: Sequence[str] | None, config: Path | None, clients: int | None
) -> tuple[RunConfig, int]:
    """Return the configuration and number of clients of an interrupted run."""
    from regl_app.runs.folder import RunFolder

    if config is not None:
        raise ConfigError(
            f"--config {config} contradicts --resume: a run goes on as its own config.json says"
        )
    folder = RunFolder.open(run)
    changes = {**parse_settings(settings or ()), "resume": str(run.resolve())}
    before = folder.read_config()
    if is_own_module(before.model.name) and changes.get("model.name") != before.model.name:
        raise ConfigError(
            f"{run}: its config.json says model.name={before.model.name!r}, code that going on "
            "would import and run; where you know the run, and that module, name it again: "
            f"regl run --resume {run} model.name={before.model.name}"
        )
    facts = folder.read_facts()
    known = facts.num_clients if facts else clients
    if known is None:
        raise ConfigError(
            f"{run}: the run was interrupted before it knew its clients: say how many it has "
            "(--clients, 10 where it was begun without)"
        )
    if clients not in (None, known):
        raise ConfigError(f"--clients must be {known}, as in the run to be resumed, got {clients}")
    return before.updated(changes), known
