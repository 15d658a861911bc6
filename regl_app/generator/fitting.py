"""What 'auto' becomes for a checkpoint: told by its configuration files and its name alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from regl_app.config import RunConfig
from regl_app.config.or_auto import AUTO
from regl_app.config.run_config import BUNDLED_FIT
from regl_app.core.errors import GeneratorError
from regl_app.core.types import Scalar
from regl_app.generator.checkpoint import configs_of, resolve_generator
from regl_app.generator.denoiser_shapes import denoiser_class
from regl_app.generator.families.family import Family
from regl_app.generator.families.registry import FAMILIES
from regl_app.generator.families.settings import NAMED
from regl_app.generator.negative_prompt import unheard
from regl_app.generator.pipeline_config import native_side, part_config, scheduler_config

_SMALL = 64
"""Up to this side of its own a checkpoint is taken as one of the bundled one's kind."""


@dataclass(frozen=True)
class Fit:
    """What fits a checkpoint.

    Args:
        name: its kind in words.
        side: of its images, in pixels.
        keys: the values of the keys that fit it, where none of the others is named.
        as_bundled: whether they are the bundled generator's.
    """

    name: str
    side: int
    keys: Mapping[str, Scalar]
    as_bundled: bool = False

    def values(self, config: RunConfig) -> dict[str, Scalar]:
        """Return the values for a run that names some of the keys, or more images than usual.

        A rank that is named has its own alpha, so that the update counts once, and the pool is
        twice what is selected from it. What fits the bundled generator does neither, unless less
        would be in its pool than is selected.
        """
        values, keys = dict(self.keys), config.to_flat()
        if keys["lora.rank"] != AUTO and not self.as_bundled:
            values["lora.alpha"] = float(config.lora.rank)
        twice = 2 * config.supplement.cap
        if not self.as_bundled:
            values["pool.per-class"] = max(twice, config.probe.per_class, 2)
        elif config.supplement.cap > int(values["pool.per-class"]):
            values["pool.per-class"] = twice
        return values


def fit_of(checkpoint: Path, image_size: int = 0, named: str = "") -> Fit:
    """Return what fits a checkpoint.

    Args:
        checkpoint: a diffusers pipeline's folder, or one file of all its weights.
        image_size: side of the images to be made; 0: the checkpoint's own.
        named: what the run calls it, which a link's target may have lost.

    Raises:
        GeneratorError: its denoiser is of no known family, or its configuration is nowhere.
    """
    part, name = denoiser_class(checkpoint)
    folder = configs_of(checkpoint)
    denoiser = part_config(folder, part)
    native = native_side(denoiser, part_config(folder, "vae"))
    side = image_size or native
    if native <= _SMALL:
        return Fit("a small checkpoint", side, BUNDLED_FIT, as_bundled=True)
    origin = Path(str(denoiser.get(NAMED) or ""))
    origin = origin.parent if origin.name == part else origin
    names = (_name(origin), _name(checkpoint), Path(named).name)
    told = denoiser | {NAMED: "\n".join(each.removesuffix(".safetensors") for each in names)}
    settings = FAMILIES[name].settings(told, scheduler_config(folder))
    return Fit(settings.name, side, settings.keys(side))


def _name(checkpoint: Path) -> str:
    """Return what a checkpoint is called: its file, its folder, or its repository's in a cache."""
    cached = checkpoint.parent.name == "snapshots"
    return checkpoint.parents[1].name.rpartition("--")[2] if cached else checkpoint.name


def tunes_by_guidance(checkpoint: Path) -> bool:
    """Return whether a checkpoint's denoiser is told the guidance scale, in tuning as well.

    Raises:
        GeneratorError: as ``fit_of``.
    """
    family, denoiser = _untold(checkpoint)
    return family.embeds_guidance(denoiser)


def tunes_text_stream(checkpoint: Path, layers: str) -> bool:
    """Return whether ``lora.layers`` = ``layers`` means layers of a text's own stream, too.

    Raises:
        GeneratorError: as ``fit_of``.
    """
    family, _ = _untold(checkpoint)
    return "text" in family.layers and layers in ("attention", "all")


def text_tokens(checkpoint: Path) -> int | None:
    """Return how many tokens of a prompt a denoiser is given, None: as many as its pipeline gives.

    Raises:
        GeneratorError: as ``fit_of``.
    """
    family, denoiser = _untold(checkpoint)
    return family.text_tokens(denoiser)


def _untold(checkpoint: Path) -> tuple[Family, SimpleNamespace]:
    """Return the family of a checkpoint, and what has its denoiser's configuration alone."""
    part, name = denoiser_class(checkpoint)
    told = SimpleNamespace(**part_config(configs_of(checkpoint), part))
    return FAMILIES[name], SimpleNamespace(config=told)


def fitted(config: RunConfig, *, fetch: bool = True) -> RunConfig:
    """Return ``config`` with a value for every key that says 'auto' until the generator is known.

    ``fetch``: whether the hub may be asked for a generator that is not in its cache.

    Raises:
        GeneratorError: there is no such generator here, or nobody knows what fits it.
    """
    wanted = open_keys(config)
    if not wanted:
        return config
    values = _fit(config, fetch=fetch).values(config)
    return config.updated({key: values[key] for key in wanted})


def fitted_if_here(config: RunConfig) -> RunConfig:
    """Return ``fitted(config)``, or ``config`` where its generator is on other machines only."""
    try:
        return fitted(config)
    except GeneratorError:
        return config


def open_keys(config: RunConfig) -> list[str]:
    """Return the keys of ``config`` that say 'auto' until the generator is known."""
    flat = config.to_flat()
    return [key for key in BUNDLED_FIT if flat[key] == AUTO]


def fit_words(config: RunConfig) -> str:
    """Return what 'auto' became, for log and report; '' if no key says it.

    With the kind of the checkpoint and the side of its images.
    """
    wanted = open_keys(config)
    if not wanted:
        return ""
    try:
        # A server fetches nothing to talk about it.
        fit = _fit(config, fetch=False)
    except GeneratorError as error:
        return f"as fits each client's own ({error})"
    values = fit.values(config)
    settings = ", ".join(f"{key}={values[key]}" for key in wanted)
    return f"{fit.name} of {fit.side} px: {settings}"


def unheard_prompt(config: RunConfig) -> str:
    """Return why a run's negative prompt has no effect; '' if it has, or nobody here can know.

    Nothing is fetched to tell.
    """
    generator = config.generator
    if not config.needs_generator or not generator.negative_prompt:
        return ""
    try:
        checkpoint = resolve_generator(generator.path, fetch=False)
        return unheard(fitted(config, fetch=False).generator, tunes_by_guidance(checkpoint))
    except GeneratorError:
        return ""


def _fit(config: RunConfig, *, fetch: bool) -> Fit:
    generator = config.generator
    found = resolve_generator(generator.path, fetch=fetch)
    return fit_of(found, generator.image_size, generator.path)
