"""``regl run``."""

from __future__ import annotations

from typing import Annotated

import typer

from regl_app.cli.engines import ClientCpus, ClientGpus, EngineName, make_engine
from regl_app.cli.settings import Clients, ConfigFile, Settings, resolve
from regl_app.cli.summary import print_summary
from regl_app.progress import setup_logging


def run(
    settings: Settings = None,
    clients: Clients = 10,
    config: ConfigFile = None,
    engine: Annotated[EngineName, typer.Option(help="Flower's runtime, or faster without.")] = (
        EngineName.FLWR
    ),
    client_cpus: ClientCpus = 1,
    client_gpus: ClientGpus = 0.0,
) -> None:
    """Run one federation; exit 0 only if it finished and learned.

    KEY=VALUE: any key of docs/configuration.md.
    Example: [bold]regl run method=regl partition.beta=0.01 rounds=5[/bold]
    """
    resolved = resolve(settings, config)
    setup_logging()
    execute = make_engine(engine, client_cpus=client_cpus, client_gpus=client_gpus)
    print_summary(execute(resolved, clients))
