"""``regl generate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import print_path
from regl_app.cli.endings import PICTURES, check_file
from regl_app.cli.options import ConfigFile, Settings, resolve
from regl_app.config.name_list import parse_names
from regl_app.core.errors import ConfigError
from regl_app.core.log import setup_logging


def generate(
    settings: Settings = None,
    classes: Annotated[
        str, typer.Option(help="Names, comma-separated or a JSON list; '' = all.")
    ] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Images per class.")] = 8,
    out: Annotated[Path, typer.Option(help="Picture of the grid.")] = Path("grid.png"),
    adapter: Annotated[
        Path | None,
        typer.Option(
            help="LoRA folder, e.g. below a run's adapters/, or its safetensors file.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[int, typer.Option(min=1, help="Screen pixels per image pixel.")] = 2,
    config: ConfigFile = None,
) -> None:
    """Draw a class grid with the generator: one row per class.

    Example: [bold]regl generate --classes 0,3 -n 8 generator.guidance=3[/bold]
    """
    check_file("--out", out, PICTURES)
    resolved = resolve(settings, config)
    setup_logging()
    from regl_app.cli.pictures import save_grid
    from regl_app.data.picture_store import PictureStore
    from regl_app.data.sources.registry import load_source
    from regl_app.generator.pictures import generate_images

    names = load_source(resolved.data, store=PictureStore.of(resolved)).class_names
    chosen = pick(classes, names)
    images = generate_images(resolved, chosen, count, adapter=adapter)
    save_grid(images, [names[index] for index in chosen], out, scale=scale)
    print_path("grid", out)


def pick(text: str, names: Sequence[str]) -> list[int]:
    """Return the indices of class names, comma-separated or a JSON list; all for an empty text.

    Raises:
        ConfigError: a name is not among ``names``.
    """
    if text in names:  # one name, whatever is in it
        return [list(names).index(text)]
    try:
        wanted = [name for name in parse_names(text) if name] or list(names)
    except ValueError as error:
        raise ConfigError(f"--classes {error}") from error
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(
            f"--classes {unknown[0]!r} is not one of {', '.join(names)} (names with commas: a JSON "
            "list)"
        )
    return [names.index(name) for name in wanted]
