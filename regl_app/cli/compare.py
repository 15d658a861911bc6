"""``regl compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import EXIT_FAILED, print_path, print_table
from regl_app.cli.options import ClientCpus, ClientGpus, Clients, Settings
from regl_app.config.parsing import parse_settings, parse_variants
from regl_app.core.errors import ConfigError
from regl_app.core.log import setup_logging
from regl_app.flower.engines.engine import EngineName, make_engine

DEFAULT_METHODS = "fedavg,regl-free,regl,regl-dpd,central"


def compare(
    settings: Settings = None,
    methods: Annotated[
        str,
        typer.Option(
            help="Comma-separated; METHOD+KEY=VALUE+... varies one, NAME:METHOD+... names the row."
        ),
    ] = DEFAULT_METHODS,
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds.")] = "0,1,2",
    clients: Clients = 10,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of all runs; finished ones with the same settings and files are reused."
        ),
    ] = (Path("runs/comparison")),
    engine: Annotated[EngineName, typer.Option(help="In-process starts faster.")] = (
        EngineName.IN_PROCESS
    ),
    vary_data: Annotated[
        bool, typer.Option(help="Let data.seed follow the seed: other splits, wider intervals.")
    ] = False,
    client_cpus: ClientCpus = 1,
    client_gpus: ClientGpus = 0.0,
) -> None:
    """Run methods x seeds and print means with 95 % intervals. Run it again to go on.

    Example: [bold]regl compare --methods fedavg,regl partition.beta=0.01[/bold]
    """
    from regl_app.runs.comparison.compare import compare as run_comparison

    base = parse_settings(settings or ())
    for key in ("method", "seed", "name", "out-dir"):
        if key in base:
            raise ConfigError(f"{key} is set by the comparison (--methods, --seeds, --out)")
    setup_logging()
    comparison = run_comparison(
        base,
        parse_variants(split(methods)),
        split_seeds(seeds),
        clients=clients,
        out_dir=out,
        engine=make_engine(engine, client_cpus=client_cpus, client_gpus=client_gpus),
        vary_data=vary_data,
    )
    several = "Mean ± half width of the 95 % interval over seeds"
    one = "One run each: differences of a point or two may be chance"
    print_table(*comparison.table(), title=several if len(comparison.seeds) > 1 else one)
    if len(comparison.methods) > 1:
        print_table(*comparison.differences(), title="Global accuracy, row minus column")
        if comparison.tailed:
            title = "Long-tail accuracy, row minus column"
            print_table(*comparison.differences("tail_accuracy"), title=title)
    print_path("table", out / "comparison.md")
    folders = [Path(outcome.folder) for outcome in comparison.outcomes]
    if folders:
        from regl_app.runs.report.build import build_report

        print_path("report", build_report(folders, out / "report.html"))
    if comparison.failures:
        raise typer.Exit(EXIT_FAILED)


def split(text: str) -> list[str]:
    """Return the comma-separated parts of ``text``, trimmed."""
    return [part.strip() for part in text.split(",") if part.strip()]


def split_seeds(text: str) -> list[int]:
    """Return comma-separated whole numbers.

    Raises:
        ConfigError: a part is not one.
    """
    try:
        return [int(part) for part in split(text)]
    except ValueError:
        raise ConfigError(f"--seeds must be whole numbers such as 0,1,2, got {text!r}") from None
