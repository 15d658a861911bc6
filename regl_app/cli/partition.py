"""``regl partition``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.markup import escape

from regl_app.cli.console import out as console
from regl_app.cli.console import print_path, print_table
from regl_app.cli.endings import DRAWINGS, TABLES, check_file
from regl_app.cli.options import Clients, ConfigFile, Settings, resolve
from regl_app.core.errors import DataError
from regl_app.core.log import setup_logging

if TYPE_CHECKING:
    from regl_app.data.federation import Federation

_SHOWN = 5


def partition(
    settings: Settings = None,
    clients: Clients = 10,
    config: ConfigFile = None,
    out: Annotated[Path, typer.Option(help="Picture of the heat map, by its ending.")] = Path(
        "partition.png"
    ),
    write: Annotated[
        Path | None,
        typer.Option(
            help="File that gets each client's rows or picture files, CSV or JSON by its ending.",
            show_default=False,
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="New folder that gets each client's images, by class: ready-made site folders.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show who would hold what, without training: statistics and a heat map.

    What --write makes is read by partition.scheme=file partition.file=...

    Example: [bold]regl partition partition.beta=0.01 --clients 10[/bold]
    """
    check_file("--out", out, DRAWINGS)
    check_file("--write", write, TABLES)
    resolved = resolve(settings, config)
    setup_logging()
    from regl_app.cli.pictures import save_heatmap
    from regl_app.config.looks import look_names
    from regl_app.data.federation import Federation

    federation = Federation.load(resolved, clients)
    counts = federation.counts()
    share = counts.sum(axis=0) / max(1, counts.sum())
    names, held_out = federation.source.class_names, federation.validation_indices
    rows = []
    for client, row in enumerate(counts):
        total = int(row.sum())
        own = row / max(1, total)
        rows.append(
            [
                str(client),
                str(total),
                *([str(len(held_out[client]))] if held_out else []),
                str(len(federation.client(client).test)),
                str(int((row > 0).sum())),
                f"{names[int(row.argmax())]} ({own.max():.0%})" if total else "-",
                # Total variation distance to the federation's labels: 0 = same mix, 1 = disjoint.
                f"{0.5 * float(np.abs(own - share).sum()):.2f}" if total else "-",
            ]
        )
    chosen_by = ["validation"] if held_out else []
    header = ["client", "train", *chosen_by, "test", "classes", "largest class", "skew"]
    print_table(header, rows)
    if looks := look_names(resolved.partition.looks):
        seen = [[str(client), looks[client % len(looks)]] for client in range(clients)]
        print_table(["client", "look"], seen)
    if column := resolved.partition.column:
        print_table(["client", "values", column], _values(federation, column))
    if federation.num_classes <= 20:
        cells = [[str(k), *(str(n) if n else "." for n in row)] for k, row in enumerate(counts)]
        print_table(["client", *names], cells, title="Training images per class")
    console.print(
        f"{escape(federation.source.name)}: {int(counts.sum())} training images of "
        f"{federation.num_classes} classes, {len(federation.source.test)} global test images. "
        "Skew: total variation distance to the federation's label mix."
    )
    title = f"{federation.source.name}, {resolved.partition.words}"
    save_heatmap(counts, federation.source.class_names, out, title=title)
    print_path("heat map", out)
    if write is not None:
        _write(federation, write)
        print_path("assignment", write)
    if export is not None:
        from regl_app.data.export import export_clients

        export_clients(federation, export)
        print_path("image folders", export)


def _values(federation: Federation, column: str) -> list[list[str]]:
    """Return a line for each client: how many values of ``column`` it holds, and which."""
    from regl_app.data.row_facts import in_order

    facts = federation.source.train.facts
    values = facts.names(column) if facts else []
    lines = []
    for client, part in enumerate(federation.parts()):
        held = in_order({values[place] for place in part.tolist()}) if values else []
        more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
        lines.append([str(client), str(len(held)), ", ".join(held[:_SHOWN]) + more])
    return lines


def _write(federation: Federation, path: Path) -> None:
    from regl_app.data.partition_file import write_partition

    facts = federation.source.train.facts
    if facts is None:
        raise DataError(
            f"--write: the images of {federation.source.name} have no row numbers that could be "
            "written (partition another data.source)"
        )
    parts = [facts.places[part] for part in federation.parts()]
    write_partition(path, parts, facts.whole)
