"""``regl export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from regl_app.cli.console import print_path
from regl_app.cli.trained import OfClient, RunArgument, Trust
from regl_app.core.errors import ConfigError
from regl_app.core.log import setup_logging

if TYPE_CHECKING:
    from regl_app.runs.folder import RunFolder


def export(
    run: RunArgument,
    to: Annotated[
        Literal["onnx", "torchscript"] | None,
        typer.Option(help="Write the model in this form, with its card.", show_default=False),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="Write the synthetic images, a folder per class.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Write the history as CSV, a line per round.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to; default: export in the run's.", show_default=False),
    ] = None,
    client: OfClient = None,
    trust: Trust = False,
) -> None:
    """Write a finished run's model, images or history in forms that other programs read.

    Example: [bold]regl export runs/regl-digits-s0 --to onnx --images --history[/bold]
    """
    if not (to or images or history):
        raise ConfigError("name what to export: --to onnx or torchscript, --images, --history")
    if client is not None and (images or history):
        raise ConfigError("--client is for --to: images and history are those of all clients")
    setup_logging()
    from regl_app.runs.folder import RunFolder

    folder = RunFolder.open(run)
    target = out or folder.path / "export"
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--out {str(target)!r} is a file, and must be a folder or new")
    if history:
        from regl_app.core.files import write_text
        from regl_app.runs.history_table import history_csv

        facts = folder.read_facts()
        table = history_csv(folder.read_history(), facts.class_names if facts else [])
        target.mkdir(parents=True, exist_ok=True)
        write_text(target / "history.csv", table)
        print_path("history", target / "history.csv")
    if to:
        _export_model(folder, to, target, client, trust)
    if images:
        _export_images(folder, target / "images")


def _export_model(
    folder: RunFolder,
    kind: Literal["onnx", "torchscript"],
    target: Path,
    client: int | None,
    trust: bool,
) -> None:
    from regl_app.cli.trained import open_model
    from regl_app.core.files import write_json, write_text
    from regl_app.runs.trained.card import model_card
    from regl_app.runs.trained.deployable import export_model

    trained = open_model(folder, client, trust)
    path, apart = export_model(trained, kind, target)
    write_json(target / "classes.json", list(trained.class_names))
    card = model_card(trained, folder, kind, path.name, client)
    write_text(target / "README.md", card)
    print_path(f"model (opened again, its answers are {apart:.1e} from the run's)", path)
    print_path("card", target / "README.md")


def _export_images(folder: RunFolder, target: Path) -> None:
    import numpy as np

    from regl_app.config.paths import with_absolute_paths
    from regl_app.core.errors import RunError
    from regl_app.data.export import export_images
    from regl_app.data.federation import Federation
    from regl_app.rounds.last_supplement import check_repeatable, last_supplement
    from regl_app.runs.inputs import check_unchanged

    history, facts = folder.read_history(), folder.read_facts()
    counts = next((r.synthetic_counts for r in reversed(history) if r.synthetic_counts), None)
    if facts is None or counts is None:
        raise RunError(
            f"{folder.path}: its history has no counts of synthetic images: the method makes none, "
            "or the clients do not say (share-diagnostics=false)"
        )
    config = with_absolute_paths(folder.read_config())
    check_repeatable(config)
    check_unchanged(folder, config)
    wanted = {key: np.array(row) for key, row in enumerate(counts) if row is not None}
    federation = Federation.load(config, facts.num_clients)
    made = last_supplement(config, federation, wanted)
    total = export_images(made, federation.source.class_names, target)
    print_path(f"{total} synthetic images", target)
