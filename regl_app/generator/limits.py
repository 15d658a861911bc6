"""What a checkpoint's own configuration does not allow, found before any weight is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.errors import GeneratorError
from regl_app.core.making_modules import MAKING_MODULES
from regl_app.generator.checkpoint import configs_of
from regl_app.generator.denoiser_shapes import denoiser_class
from regl_app.generator.families.family import Family
from regl_app.generator.families.registry import FAMILIES
from regl_app.generator.pipeline_config import (
    native_side,
    part_config,
    scheduler_config,
    solver_class,
    text_to_image_class,
    vae_factor,
)
from regl_app.generator.quiet import quiet
from regl_app.generator.solver import blind_start, goes_by_strength, solver_of


def blind_start_of(checkpoint: Path, config: GeneratorConfig) -> str:
    """Return that images which are to start from pictures begin at noise; '' if they do not.

    Args:
        checkpoint: what ``resolve_generator`` returned.
        config: with no key left at 'auto'.
    """
    folder = configs_of(checkpoint)
    scheduler = _scheduler(folder)
    if scheduler is None or goes_by_strength(text_to_image_class(folder), type(scheduler)):
        return ""
    return blind_start(scheduler, config.steps, config.image_strength)


def check_limits(checkpoint: Path, config: GeneratorConfig) -> None:
    """Refuse a size or a number of steps that a checkpoint cannot draw.

    What is wrong with its configurations themselves is told by what loads it.

    Args:
        checkpoint: what ``resolve_generator`` returned.
        config: with no key left at 'auto'.

    Raises:
        GeneratorError: names the key, its value, what is allowed, and the remedy.
    """
    folder = configs_of(checkpoint)
    try:
        part, kind = denoiser_class(checkpoint)
    except GeneratorError:
        return
    told, vae = part_config(folder, part), part_config(folder, "vae")
    family, factor = FAMILIES[kind], vae_factor(vae)
    denoiser = SimpleNamespace(config=SimpleNamespace(**told))
    try:
        patch = family.patch(denoiser)
    except AttributeError:
        return
    side = config.image_size or native_side(told, vae)
    check_size(family, denoiser, side, factor, config.path)
    scheduler = _scheduler(folder)
    if scheduler is None:
        return
    squares = (side // factor // patch) ** 2
    solver_of(family, scheduler, config.steps, squares)
    if config.image_conditioning and goes_by_strength(text_to_image_class(folder), type(scheduler)):
        solver_of(family, scheduler, config.steps, squares, strength=config.image_strength)


def check_size(family: Family, denoiser: Any, side: int, factor: int, path: str) -> None:
    """Refuse images of ``side`` pixels that a denoiser cannot draw.

    Args:
        family: of the denoiser.
        denoiser: whose configuration is asked.
        side: of the images.
        factor: pixels a side that one latent stands for.
        path: ``generator.path``.

    Raises:
        GeneratorError: they are no multiple of a patch, or too large.
    """
    unit = factor * family.patch(denoiser)
    if side % unit:
        raise GeneratorError(
            f"generator.image-size must be a multiple of {unit} for {path!r}, got {side}"
        )
    most = family.most_side(denoiser)
    if most is not None and side > most * factor:
        raise GeneratorError(
            f"generator.image-size={side} is more than {path!r} has places for: at most "
            f"{most * factor} (lower generator.image-size; it draws best at its own, 0)"
        )


def _scheduler(folder: Path) -> Any:
    """Return a pipeline's scheduler; None: nothing can be built of its configuration."""
    config, kind = scheduler_config(folder), solver_class(folder)
    if kind is None:
        return None
    try:
        with MAKING_MODULES, quiet():
            return kind.from_config(config)
    except Exception:
        return None
