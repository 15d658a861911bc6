"""Arguments that several commands take, and the run configuration they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from regl_app.config import RunConfig
from regl_app.config.or_auto import AUTO
from regl_app.config.parsing import parse_settings, read_toml
from regl_app.config.presets import PRESET_KEYS
from regl_app.config.run_config import flattened
from regl_app.core.types import Scalar

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Keys of docs/configuration.md, such as method=regl partition.beta=0.01.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML or JSON of keys, or a run folder's config.json to repeat; KEY=VALUE win.",
        show_default=False,
    ),
]
Clients = Annotated[int, typer.Option("--clients", "-n", min=1, help="Number of clients.")]
ClientCpus = Annotated[
    int, typer.Option(min=1, help="Processors a client reserves; as many clients run as fit.")
]
ClientGpus = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="GPU share per client, e.g. 0.2 for five at a time on each. Default: one client on "
        "each GPU where clients have a generator.",
        show_default=False,
    ),
]


def resolve(
    settings: Sequence[str] | None,
    config_file: Path | None = None,
    base: Mapping[str, Scalar] | None = None,
) -> RunConfig:
    """Return the configuration of ``base``, then the file's keys, then ``key=value`` settings.

    A file of prompts is read here, and goes with the run as its content.

    Raises:
        ConfigError: a setting, the file or the result is not valid.
        GeneratorError: a file of prompts cannot be read.
    """
    from regl_app.data.prompt_table import inlined

    flat = dict(base or {})
    if config_file is not None:
        given = dict(flattened(read_toml(config_file)))
        flat |= RunConfig.from_flat(given).to_flat()
        changes = parse_settings(settings or ())
        flat = RunConfig.from_flat(flat).updated(changes, _chosen(given)).to_flat()
        return RunConfig.from_flat(inlined(flat))
    return RunConfig.from_flat(inlined(flat | parse_settings(settings or ())))


def _chosen(given: Mapping[str, Scalar]) -> set[str]:
    """Return the keys of a file that somebody chose; none of a run's own, which holds them all."""
    whole = PRESET_KEYS.keys() <= given.keys()
    return set() if whole else {key for key, value in given.items() if value != AUTO}
