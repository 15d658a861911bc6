"""``regl compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import EXIT_FAILED, print_path, print_table
from regl_app.cli.options import ClientCpus, ClientGpus, Clients, ConfigFile, Settings
from regl_app.config import RunConfig, default_flat
from regl_app.config.auto_teaching import TAUGHT_KEYS
from regl_app.config.or_auto import AUTO
from regl_app.config.parsing import parse_settings, parse_variants, read_toml
from regl_app.config.presets import PRESET_KEYS, PRESETS
from regl_app.config.run_config import flattened
from regl_app.core.errors import ConfigError
from regl_app.core.log import setup_logging
from regl_app.core.types import Scalar
from regl_app.flower.engines.engine import EngineName, make_engine
from regl_app.runs.comparison.plan import SET_HERE

DEFAULT_METHODS = "fedavg,regl-free,regl,regl-dpd,central"


def compare(
    settings: Settings = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated; METHOD+KEY=VALUE+... varies one, NAME:METHOD+... names the row.",
            show_default=DEFAULT_METHODS,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROW",
            help="One row, as one of --methods, whose values may have commas; may be repeated.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
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

    base = _of_file(config, vary_data) | parse_settings(settings or ())
    if "method" in base:
        raise ConfigError(
            f"method={base['method']} is set by the comparison (name methods by --methods)"
        )
    setup_logging()
    comparison = run_comparison(
        base,
        _rows(methods, method or ()),
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
        for title, table in comparison.gaps():
            print_table(*table, title=title)
    print_path("table", out / "comparison.md")
    # Two rows may be one run.
    folders = list(dict.fromkeys(Path(outcome.folder) for outcome in comparison.outcomes))
    if folders:
        from regl_app.runs.report.build import build_report

        print_path("report", build_report(folders, out / "report.html"))
    if comparison.failures:
        raise typer.Exit(EXIT_FAILED)


def _rows(methods: str | None, rows: Sequence[str]) -> dict[str, dict[str, Scalar]]:
    """Return the settings of each row of ``--methods`` and of each ``--method``, by its name."""
    listed = split(DEFAULT_METHODS if methods is None and not rows else methods or "")
    for text in listed if len(listed) > 1 else ():
        (settings,) = parse_variants([text]).values()
        if settings["method"] not in PRESETS:
            raise ConfigError(
                f"method must be one of {', '.join(map(repr, PRESETS))}, got "
                f"{settings['method']!r} (commas separate the rows of --methods; a row whose "
                "values have commas is given by --method)"
            )
    return parse_variants([*listed, *rows])


def _of_file(path: Path | None, vary_data: bool) -> dict[str, Scalar]:
    """Return the keys of a file that all rows have in common.

    A run's own config.json holds every key: what its method or another 'auto' made of them is
    left to the rows, and what the comparison sets to it.
    """
    if path is None:
        return {}
    given = dict(flattened(read_toml(path)))
    if not PRESET_KEYS.keys() <= given.keys():
        return given
    flat = RunConfig.from_flat(given).to_flat()
    undecided = {key for key, value in default_flat().items() if value == AUTO}
    auto = RunConfig.from_flat(flat | dict.fromkeys(undecided, AUTO)).to_flat()
    left = {key for key in undecided if auto[key] == flat[key]}
    left |= {"method", *PRESET_KEYS, *TAUGHT_KEYS, *SET_HERE, *(["data.seed"] * vary_data)}
    return {key: value for key, value in flat.items() if key not in left}


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
