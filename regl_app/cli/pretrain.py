"""``regl pretrain``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import print_path
from regl_app.errors import ConfigError
from regl_app.progress import setup_logging


def pretrain(
    out: Annotated[Path, typer.Option(help="Folder that receives the pipeline.")] = (
        Path("generator")
    ),
    images: Annotated[
        int | None, typer.Option(min=1, help="Rendered glyphs; default: as shipped.")
    ] = None,
    autoencoder_steps: Annotated[
        int | None, typer.Option(min=1, help="Default: as shipped.")
    ] = None,
    denoiser_steps: Annotated[int | None, typer.Option(min=1, help="Default: as shipped.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Glyphs, weights, batches and noise.")] = 0,
    fonts: Annotated[
        list[Path] | None,
        typer.Option(help="Folders to look for the fonts in; default: the system's."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; the result depends on it.")] = 2,
) -> None:
    """Make the bundled generator again, from glyphs of freely licensed fonts.

    The result is used by generator.path=FOLDER.

    Example: [bold]regl pretrain --out my-generator[/bold]
    """
    if out.exists():
        raise ConfigError(f"--out {out} exists already: name a new folder, or remove it")
    setup_logging()
    import torch

    from regl_app.generator.fonts import DEFAULT_FOLDERS
    from regl_app.generator.pretrain import PretrainOptions
    from regl_app.generator.pretrain import pretrain as run_pretraining

    given = {
        "images": images,
        "autoencoder_steps": autoencoder_steps,
        "denoiser_steps": denoiser_steps,
    }
    options = replace(
        PretrainOptions(seed=seed), **{key: n for key, n in given.items() if n is not None}
    )
    torch.set_num_threads(threads)
    print_path("pipeline", run_pretraining(out, options, font_folders=fonts or DEFAULT_FOLDERS))
