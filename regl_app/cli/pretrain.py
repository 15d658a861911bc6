"""``regl pretrain``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from regl_app.cli.console import print_path
from regl_app.cli.options import Settings, resolve
from regl_app.core.errors import ConfigError
from regl_app.core.log import setup_logging

_GLYPHS = "glyphs"
# Chosen by purity (benchmarks/looks.py): neither blind (near 0) nor an oracle.
_LOOK = "outlined"


def pretrain(
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="Folder that receives the pipeline.")] = (
        Path("generator")
    ),
    source: Annotated[
        str, typer.Option(help="'glyphs', or a data.source, whose public part is learned from.")
    ] = _GLYPHS,
    look: Annotated[
        str,
        typer.Option(
            help="How a data set is disguised: outlined, shrunk, rotated, sheared, mirrored, "
            "blurred, inverted, noisy, dimmed, tinted, or several as a+b; 'rotated:45' by so much."
        ),
    ] = _LOOK,
    images: Annotated[int, typer.Option(min=1, help="Glyphs to render.")] = 30_000,
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
    """Make a small generator: the bundled one, from freely licensed fonts, or one of a data set.

    A data set's public part is learned from in another look than its clients' images have: what
    things are is known, how they look is not. Its purity is measured: which share of its images a
    judge trained on the undisguised public images reads as meant. The result is used by
    generator.path=FOLDER and the same data.public-fraction.

    Example: [bold]regl pretrain --source fashion-mnist --out garments data.path=DIR
    data.public-fraction=0.2[/bold]
    """
    if out.exists():
        raise ConfigError(f"--out {out} exists already: name a new folder, or remove it")
    if source == _GLYPHS and settings:
        raise ConfigError(f"KEY=VALUE is about a data set, --source glyphs takes none: {settings}")
    setup_logging()
    import torch

    from regl_app.generator.pretraining.corpus import glyph_corpus, public_corpus
    from regl_app.generator.pretraining.fonts import DEFAULT_FOLDERS
    from regl_app.generator.pretraining.options import PretrainOptions
    from regl_app.generator.pretraining.pretrain import pretrain as run_pretraining

    given = {"autoencoder_steps": autoencoder_steps, "denoiser_steps": denoiser_steps}
    options = replace(
        PretrainOptions(seed=seed), **{key: n for key, n in given.items() if n is not None}
    )
    torch.set_num_threads(threads)
    if source == _GLYPHS:
        corpus = glyph_corpus(images, seed, fonts or DEFAULT_FOLDERS)
    else:
        corpus = public_corpus(resolve(settings, base={"data.source": source}).data, look)
    print_path("pipeline", run_pretraining(out, corpus, options))
