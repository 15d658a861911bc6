"""A ruined adapter is known by what it draws: images that the model before it cannot make out.

A learning rate too high leaves weights that are finite and draw noise; neither the loss nor the
implicit margin of preference tuning tells. ``benchmarks/ruined_adapters.py`` has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.seeding import derive_seed, torch_generator
from regl_app.core.types import Tensors
from regl_app.data.images import ImageSet
from regl_app.data.pictures import Pictures
from regl_app.generator.finite import NotFiniteError
from regl_app.generator.foundation import Foundation
from regl_app.generator.image_conditioning import encode_latents
from regl_app.generator.noise_schedule import NoiseProcess
from regl_app.generator.pool import Pool
from regl_app.generator.portions import in_portions
from regl_app.generator.sampling import sample_latents

LIMITS = {"lora": 7.0, "dpo": 20.0}
"""Strangeness above which an adapter counts as ruined. Preferences change more of what is drawn."""
MOST = 1e6
"""What strangeness is where the adapter draws no finite number."""
_IMAGES, _STEPS = 8, 4
"""Drawn without guidance, so that it takes little of the time that tuning took."""
_REAL = 0.25
"""A client's own images may be strange to the model themselves: this share of theirs is none."""
_NOISE = (0.25, 1.0)
"""Noise over signal at which images are judged: enough to need a model, too little for any two
looks to differ by much."""


@dataclass(frozen=True)
class Known:
    """Scaled latents ``(N, c, h, w)`` of ``rows`` (N,): ``share`` of their strangeness is none.

    Of an adapter ``limit`` times as strange is sound.
    """

    latents: torch.Tensor
    rows: torch.Tensor
    share: float
    limit: float

    @classmethod
    def real(
        cls,
        foundation: Foundation,
        real: ImageSet,
        at_once: int,
        pictures: Pictures | None = None,
    ) -> Self:
        """Return some of the images, at least one, that an adapter was tuned on.

        Args:
            foundation: the model.
            real: the images.
            at_once: how many the VAE encodes at once, at most.
            pictures: those of ``real`` at the generator's own size; None: its images.
        """
        places = _spread(len(real))
        shown = real.pixels if pictures is None else pictures
        chosen = torch.cat([shown[place : place + 1] for place in places.tolist()])
        latents = encode_latents(foundation, chosen, at_once)
        rows = foundation.prompt_rows.of_set(real.labels)[places]
        return cls(latents, rows, _REAL, LIMITS["lora"])

    @classmethod
    def drawn(cls, foundation: Foundation, pool: Pool) -> Self:
        """Return some of what the model before drew."""
        places = _spread(len(pool.labels))
        rows = pool.rows(foundation)[places]
        return cls(pool.latents[places], rows, 1.0, LIMITS["dpo"])


def strangeness(
    foundation: Foundation,
    sampler: GeneratorConfig,
    tuned: Tensors,
    start: Tensors,
    known: Known,
    *,
    exact: bool = False,
) -> float:
    """Return how strange what ``tuned`` draws is to the model it was tuned from; about 1 if at all.

    With l(x) the mean squared error at which that model denoises x, both drawn from one noise::

        l(drawn by tuned) / max(l(drawn by start), share * l(known))

    Args:
        foundation: the model; no adapter may be merged.
        sampler: steps at most, and images at once.
        tuned: the adapter in question, ``start`` included, as ``save_adapter`` takes it.
        start: the adapter it was tuned from; empty: the frozen model.
        known: what is no news to that model, or may be.
        exact: if not, nothing is drawn by ``start`` where ``known`` alone shows that the adapter is
            sound; what is returned may then be too large, but not above its limit.
    """
    config = sampler.model_copy(update={"steps": min(_STEPS, sampler.steps), "guidance": 1.0})
    labels = _spread(foundation.num_classes)
    rows = foundation.prompt_rows.of_images(labels, range(_IMAGES))
    stream = derive_seed(0, "ruin")
    draw = partial(sample_latents, foundation, labels, range(_IMAGES), config, stream=stream)
    judge = partial(_errors, foundation, at_once=config.batch_size)
    using = foundation.adapters.using
    try:
        with using(tuned, "the tuned adapter"):
            drawn = draw()
    except NotFiniteError:
        return MOST
    with using(start, "the adapter to start from"):
        found, theirs = judge([drawn, known.latents.to(drawn)], [rows, known.rows])
        usual = known.share * theirs
        if found <= known.limit * usual and not exact:
            return found / usual
        usual = max(usual, *judge([draw()], [rows]), 1e-12)
    return min(found / usual, MOST) if math.isfinite(found) else MOST


def _spread(count: int) -> torch.Tensor:
    """Return ``_IMAGES`` places below ``count``, evenly spread."""
    return torch.arange(_IMAGES) * count // _IMAGES


@torch.no_grad()
def _errors(
    foundation: Foundation,
    sets: Sequence[torch.Tensor],
    rows: Sequence[torch.Tensor],
    *,
    at_once: int,
) -> list[float]:
    """Return the mean squared error at which each set of latents ``(_IMAGES, c, h, w)`` of ``rows``
    is denoised, all with the same noise."""
    process = foundation.noise_process()
    clean = torch.cat(list(sets)).to(foundation.device)
    timesteps = _timesteps(process, _IMAGES).to(clean.device).repeat(len(sets))
    noise = torch.randn(sets[0].shape, generator=torch_generator(0, "ruin", "noise"))
    noise = noise.to(clean).repeat(len(sets), 1, 1, 1)
    noisy, target = process.apply(clean, timesteps, noise)
    classes = torch.cat(list(rows)).to(clean.device)

    def errors(part: slice) -> torch.Tensor:
        predicted = foundation.predict(noisy[part], timesteps[part], classes[part])
        return (predicted - target[part]).square().mean((1, 2, 3))

    each = torch.cat(in_portions(foundation, "denoising", len(clean), at_once, errors))
    return [float(part.mean()) for part in torch.split(each, _IMAGES)]


def _timesteps(process: NoiseProcess, count: int) -> torch.Tensor:
    """Return ``(count,)`` training timesteps, spread over those of middling noise."""
    every = process.timesteps(1000, torch_generator(0, "ruin", "timesteps")).sort().values
    ratio = process.level(every).ratio.flatten().to(every.device)
    least, most = _NOISE
    middling = every[(ratio >= least) & (ratio <= most)]
    chosen = middling if len(middling) else every
    return chosen[(torch.arange(count) * 2 + 1) * len(chosen) // (2 * count)]
