"""A checkpoint's solver, ready to go: its steps set, within what its own configuration allows."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from regl_app.core.errors import GeneratorError
from regl_app.generator.families.family import Family
from regl_app.generator.flow_process import is_flow

BY_STRENGTH = "LatentConsistencyModelPipeline"
"""The pipeline whose steps from a picture are all of them, spread over the noise that is left.

Only by a solver that is told how much that is: LCM and TCD.
"""
_MOST_STEPS = 1000
_REFUSALS = (ValueError, IndexError, ZeroDivisionError)
"""What solvers raise of a number of steps that they cannot make."""


def solver_of(
    family: Family,
    scheduler: Any,
    steps: int,
    squares: int,
    device: torch.device | str = "cpu",
    strength: float | None = None,
) -> Any:
    """Return a fresh scheduler of ``scheduler``'s own kind, with ``steps`` to go.

    Args:
        family: of the denoiser.
        scheduler: the checkpoint's own, which stays as it is.
        steps: ``generator.steps``.
        squares: of the denoiser's patches that a latent has.
        device: of the timesteps.
        strength: of noise on the picture that all steps start from; None: they start from noise.

    Raises:
        GeneratorError: its configuration does not allow that many.
    """
    try:
        return _set(family, scheduler, steps, squares, device, strength)
    except _REFUSALS as error:
        nearest = _nearest(family, scheduler, steps, squares, strength)
        start, more = "", ""
        if strength is not None:
            start = f" from pictures at generator.image-strength={strength:g}"
            more = (
                ", raise generator.image-strength, or start from no picture: "
                "generator.image-conditioning=false"
            )
        allowed = f"the nearest that it makes is {nearest}" if nearest else "it makes none"
        raise GeneratorError(
            f"generator.steps={steps}: the checkpoint's {type(scheduler).__name__} does not make "
            f"so many{start}, {allowed} (set generator.steps={nearest or 'auto'}{more}): {error}"
        ) from error


def goes_by_strength(pipeline: str, kind: type | None) -> bool:
    """Return whether ``pipeline`` takes all steps from a picture, by a solver of class ``kind``."""
    setter = getattr(kind, "set_timesteps", None)
    return (
        pipeline == BY_STRENGTH
        and setter is not None
        and "strength" in inspect.signature(setter).parameters
    )


def steps_passed(scheduler: Any, steps: int, strength: float) -> int:
    """Return how many of ``steps`` are left out of what starts from pictures at ``strength``.

    As many as by diffusers' pipelines: a part of a step is left out of a diffusion, and is a whole
    one of flow matching.
    """
    kept = steps * strength
    passed = int(steps - kept) if is_flow(scheduler) else steps - int(kept)
    return max(min(passed, steps - 1), 0)


def blind_start(scheduler: Any, steps: int, strength: float) -> str:
    """Return that images' first step takes pictures for noise, whatever the strength; '' if not.

    Args:
        scheduler: whose steps are not spread over the noise that is left.
        steps: ``generator.steps``.
        strength: ``generator.image-strength``.

    Returns:
        With the least number of steps that begins at the pictures.
    """
    if strength == 1 or steps_passed(scheduler, steps, strength):
        return ""
    counts = range(steps, _MOST_STEPS + 1)
    least = next((count for count in counts if steps_passed(scheduler, count, strength)), None)
    more = f"set generator.steps={least} or more" if least else "lower generator.image-strength"
    return (
        f"generator.steps={steps} leaves nothing of the pictures that images start from, though "
        f"generator.image-strength={strength:g}: their first step begins at noise alone ({more}, "
        "or start from no picture: generator.image-conditioning=false)"
    )


def _set(
    family: Family,
    scheduler: Any,
    steps: int,
    squares: int,
    device: torch.device | str,
    strength: float | None,
) -> Any:
    fresh = type(scheduler).from_config(scheduler.config)
    arguments = family.solver(fresh, steps, squares)
    if strength is not None:
        arguments |= {"strength": strength}
    fresh.set_timesteps(**arguments, device=device)
    table = getattr(fresh, "alphas_cumprod", None)
    # What has sigmas looks between the entries.
    if table is not None and not hasattr(fresh, "sigmas") and fresh.timesteps.max() >= len(table):
        raise IndexError(f"timestep {int(fresh.timesteps.max())} of {len(table)}")
    return fresh


def _nearest(
    family: Family, scheduler: Any, steps: int, squares: int, strength: float | None
) -> int | None:
    """Return the number of steps next to ``steps`` that the solver makes; None: it makes none."""
    for count in sorted(range(1, _MOST_STEPS + 1), key=lambda count: abs(count - steps)):
        try:
            _set(family, scheduler, count, squares, "cpu", strength)
        except _REFUSALS:
            continue
        return count
    return None
