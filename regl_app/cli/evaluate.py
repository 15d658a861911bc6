"""``regl evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from regl_app.cli.console import out as console
from regl_app.cli.console import print_path, print_table
from regl_app.cli.endings import check_file
from regl_app.cli.options import Settings
from regl_app.cli.trained import Device, OfClient, RunArgument, Trust
from regl_app.core.log import setup_logging

Part = Literal["test", "train", "all"]
_MOST_CLASSES = 20


def evaluate(
    run: RunArgument,
    settings: Settings = None,
    part: Annotated[
        Part | None,
        typer.Option(
            help="Of the data: test, train or all. Default: all of other data, the test part of "
            "the run's own.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file with every figure.", show_default=False)
    ] = None,
    client: OfClient = None,
    trust: Trust = False,
    device: Device = "auto",
) -> None:
    """Measure a finished run's model on labelled images: the run's own, or others by data keys.

    Classes are matched by name; those of the images may be some of the run's.

    Example: [bold]regl evaluate runs/a data.source=folder data.path=new-photos[/bold]
    """
    check_file("--out", out)
    setup_logging()
    from regl_app.cli.trained import open_model
    from regl_app.config.parsing import parse_settings
    from regl_app.core.devices import resolve_device
    from regl_app.core.files import write_json
    from regl_app.runs.folder import RunFolder
    from regl_app.runs.trained.labelled import labelled_images
    from regl_app.runs.trained.scores import scores_of

    changes = parse_settings(settings or ())
    trained = open_model(RunFolder.open(run), client, trust, reads=True)
    images, names = labelled_images(trained, changes, part)
    found = scores_of(trained, images, names, resolve_device(device))
    metrics = found.metrics
    noun = "image" if metrics.images == 1 else "images"
    console.print(
        f"{metrics.images} {noun}: accuracy {100 * metrics.accuracy:.1f} %, balanced "
        f"{100 * found.balanced_accuracy:.1f} %, macro-F1 {100 * metrics.macro_f1:.1f} %, "
        f"loss {metrics.loss:.3f}",
        highlight=False,
    )
    shares = [
        [each.name, str(each.images), *map(_percent, (each.precision, each.recall, each.f1))]
        for each in found.classes
    ]
    print_table(["class", "images", "precision", "recall", "F1"], shares)
    taken = found.taken_for
    if len(taken.columns) <= _MOST_CLASSES:
        rows = zip(taken.rows, taken.counts.tolist(), strict=True)
        print_table(
            ["is \\ taken for", *taken.columns],
            [[name, *map(str, counts)] for name, counts in rows],
        )
    if out is not None:
        write_json(out, found.to_json())
        print_path("figures", out)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
