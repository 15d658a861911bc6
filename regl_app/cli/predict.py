"""``regl predict``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import out as console
from regl_app.cli.console import print_path, print_table
from regl_app.cli.endings import TABLES, check_file
from regl_app.cli.trained import Device, OfClient, RunArgument, Trust
from regl_app.config.sections import DepthRule
from regl_app.core.log import logger, setup_logging

_STDOUT = Path("-")


def predict(
    run: RunArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Picture files, folders of such.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="FILE.csv or FILE.json with the probability of every class; '-' is CSV to the "
            "terminal. Default: a table of the likeliest.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes per picture in the table.")] = 3,
    depth: Annotated[
        DepthRule | None,
        typer.Option(
            help="How deep greyscale is read, as data.depth; default: as the run did.",
            show_default=False,
        ),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out what cannot be read.")
    ] = False,
    client: OfClient = None,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Say what a finished run's model takes pictures for.

    Example: [bold]regl predict runs/regl-folder-s0 photos --out labels.csv[/bold]
    """
    if out != _STDOUT:
        check_file("--out", out, TABLES, other=", or be '-'")
    else:  # which is the table's alone
        logger.addHandler(logging.StreamHandler(sys.stderr))
    setup_logging()
    from regl_app.cli.trained import open_model
    from regl_app.core.devices import resolve_device
    from regl_app.core.files import write_text
    from regl_app.runs.folder import RunFolder
    from regl_app.runs.trained.pictures import find_pictures, named_pictures
    from regl_app.runs.trained.predictions import predictions, shown

    trained = open_model(RunFolder.open(run), client, trust, reads=True)
    pictures = named_pictures(
        find_pictures(images), trained, depth=depth, unreadable="skip" if skip_unreadable else None
    )
    log_probs = trained.log_probs(pictures.images, resolve_device(device))
    found = predictions(pictures.files, log_probs, trained.class_names)
    if out is None:
        count = min(top, len(trained.class_names))
        rows = [
            [
                shown(file),
                *(f"{name} {100 * share:.1f}%" for name, share in found.best(place, count)),
            ]
            for place, file in enumerate(found.files)
        ]
        print_table(["picture", *(f"{place}." for place in range(1, count + 1))], rows)
    elif out == _STDOUT:
        console.file.write(found.to_csv())
    else:
        write_text(out, found.to_json() if out.suffix.lower() == ".json" else found.to_csv())
        print_path(f"{len(found.files)} predictions", out)
