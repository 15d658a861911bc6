"""Images from prompts: one few-step solver loop for every checkpoint and scheduler.

Image i of class c depends on (stream, class, index) alone: each image draws its noise from its
own generator, so batches can be cut anywhere and a sequence can be extended later. (Processors
choose their kernels by batch size, so pixels may differ by rounding between cuts.)
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from regl_app.config.supplement_sections import GeneratorConfig
from regl_app.core.seeding import torch_generator
from regl_app.core.types import StepProgress
from regl_app.generator.decoding import decode_latents
from regl_app.generator.discrepancy_guidance import DiscrepancyGuidance
from regl_app.generator.finite import check_denoised
from regl_app.generator.foundation import Foundation
from regl_app.generator.portions import in_portions
from regl_app.generator.solver import goes_by_strength, steps_passed


@torch.no_grad()
def sample(
    foundation: Foundation,
    labels: Sequence[int] | torch.Tensor,
    indices: Sequence[int],
    config: GeneratorConfig,
    *,
    stream: int,
    starts: torch.Tensor | None = None,
    discrepancy_guidance: DiscrepancyGuidance | None = None,
    progress: StepProgress | None = None,
) -> torch.Tensor:
    """Return images, uint8 ``(N, 3, H, W)`` at the generator's size.

    Args:
        foundation: the model, with the adapter of the moment merged.
        labels: class of each image, ``(N,)``.
        indices: place of each image in its class's sequence, ``(N,)``.
        config: steps, guidance and batch size; ``image_strength`` for ``starts``.
        stream: seed of the sequences; different clients use different ones.
        starts: real latents ``(N, c, h, w)`` to start from (img2img); None: pure noise.
        discrepancy_guidance: moves every prediction towards what a client lacks; None: none does.
        progress: called with (images done, N) after each batch.

    Raises:
        GeneratorError: what comes out is not finite, or does not fit into the device's memory.
    """
    latents = sample_latents(
        foundation,
        labels,
        indices,
        config,
        stream=stream,
        starts=starts,
        discrepancy_guidance=discrepancy_guidance,
        progress=progress,
    )
    return decode_latents(foundation, latents, config.batch_size)


@torch.no_grad()
def sample_latents(
    foundation: Foundation,
    labels: Sequence[int] | torch.Tensor,
    indices: Sequence[int],
    config: GeneratorConfig,
    *,
    stream: int,
    starts: torch.Tensor | None = None,
    discrepancy_guidance: DiscrepancyGuidance | None = None,
    progress: StepProgress | None = None,
) -> torch.Tensor:
    """Return scaled latents, float32 ``(N, c, h, w)``; arguments as for ``sample``."""
    classes = torch.as_tensor(labels, dtype=torch.int64)

    def make(part: slice) -> torch.Tensor:
        noise = _Noise(foundation, classes[part].tolist(), indices[part], stream)
        start = None if starts is None else starts[part]
        rows = foundation.prompt_rows.of_images(classes[part], indices[part])
        tokens = foundation.adapters.image_tokens
        looks = None if tokens is None else tokens.of_images(classes[part].tolist(), indices[part])
        shown = foundation.image_prompts.of_images(classes[part].tolist(), indices[part])
        told = _Told(rows, looks, shown)
        latents = _denoise(
            foundation, classes[part], told, noise, config, start, discrepancy_guidance
        )
        check_denoised(foundation, latents, steered=discrepancy_guidance is not None)
        if progress is not None:
            progress(part.stop, len(classes))
        return latents

    batches = in_portions(foundation, "denoising", len(classes), config.batch_size, make)
    return torch.cat(batches) if batches else torch.empty((0, *foundation.latent_shape))


@dataclass(frozen=True)
class _Told:
    """What the denoiser is told of N images.

    ``rows`` of the prompts ``(N,)``; image tokens ``looks``, ``(N, K, D)``, and features ``shown``
    to an IP-Adapter, ``(N, F)``, where there are any.
    """

    rows: torch.Tensor
    looks: torch.Tensor | None
    shown: torch.Tensor | None

    def on(self, device: torch.device) -> _Told:
        """Return the same with its rows on ``device``, where the others are."""
        return replace(self, rows=self.rows.to(device))


class _Noise:
    """One generator per image, so that its noise is the same in every batch."""

    def __init__(
        self, foundation: Foundation, labels: Sequence[int], indices: Sequence[int], stream: int
    ) -> None:
        self.generators = [
            torch_generator(stream, label, index)
            for label, index in zip(labels, indices, strict=True)
        ]
        self.initial = torch.stack(
            [torch.randn(foundation.latent_shape, generator=g) for g in self.generators]
        ).to(foundation.device)


def _denoise(
    foundation: Foundation,
    labels: torch.Tensor,
    told: _Told,
    noise: _Noise,
    config: GeneratorConfig,
    start: torch.Tensor | None,
    discrepancy_guidance: DiscrepancyGuidance | None,
) -> torch.Tensor:
    """Return the latents ``(N, c, h, w)`` that the scheduler's steps lead the noise to."""
    process, scheduler = foundation.noise_process(), _solver(foundation, config, start)
    timesteps = scheduler.timesteps
    if start is None:
        latents = process.start(scheduler, noise.initial)
    else:
        if not _goes_by_strength(foundation):
            timesteps = _last_timesteps(scheduler, config)
        start = start.to(foundation.device)
        latents = process.start_from(scheduler, start, noise.initial, timesteps[:1])
    labels, told = labels.to(foundation.device), told.on(foundation.device)
    extra = _step_arguments(scheduler, noise.generators)
    done = len(scheduler.timesteps) - len(timesteps)
    twice = runs_twice(foundation, config)
    guided = config.guidance_stop * len(scheduler.timesteps) if twice else 0.0
    for place, timestep in enumerate(timesteps, start=done):
        scaled = process.scaled(scheduler, latents, timestep)
        if place < guided:
            prediction = _guided(foundation, scaled, timestep, told, config)
        else:
            prediction = foundation.predict(scaled, timestep, told.rows, told.looks, told.shown)
        if discrepancy_guidance is not None:
            prediction = discrepancy_guidance.adjust(
                foundation, scaled, prediction, timestep, labels
            )
        stepped = scheduler.step(prediction, timestep, latents, **extra, return_dict=False)
        latents = stepped[0].float()
    return latents


def _solver(foundation: Foundation, config: GeneratorConfig, start: torch.Tensor | None) -> Any:
    spread = start is not None and _goes_by_strength(foundation)
    return foundation.new_scheduler(config.steps, config.image_strength if spread else None)


def _goes_by_strength(foundation: Foundation) -> bool:
    return goes_by_strength(foundation.pipeline, type(foundation.scheduler))


def runs_twice(foundation: Foundation, config: GeneratorConfig) -> bool:
    """Return whether the denoiser is run on two of each image in a step that is guided."""
    return config.guidance > 1 and not foundation.embeds_guidance


def _last_timesteps(scheduler: Any, config: GeneratorConfig) -> torch.Tensor:
    """Return the timesteps that are left when sampling starts from pictures, and begin there."""
    passed = steps_passed(scheduler, config.steps, config.image_strength)
    first = passed * getattr(scheduler, "order", 1)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps: torch.Tensor = scheduler.timesteps[first:]
    return timesteps


def _guided(
    foundation: Foundation,
    latents: torch.Tensor,
    timestep: torch.Tensor,
    told: _Told,
    config: GeneratorConfig,
) -> torch.Tensor:
    """Return the guided prediction ``(N, c, h, w)`` at ``latents``, of the same shape.

    Classifier-free guidance: eps(class) + (w - 1) * (eps(class) - eps(empty)). With
    ``guide = 'frozen'`` the bracket, the direction towards the class, is the frozen model's: an
    adapter has seen its client's classes only, and draws the others less and less alike.
    """
    both = torch.cat([latents, latents])
    rows = torch.cat([told.rows, torch.full_like(told.rows, -1)])
    tokens, shown = foundation.adapters.image_tokens, None
    if told.shown is not None:
        shown = torch.cat([told.shown, torch.zeros_like(told.shown)])
    looks = None
    if told.looks is not None and tokens is not None:
        looks = torch.cat([told.looks, tokens.untold(len(told.rows))])
    if config.guide == "frozen" and foundation.adapters.filled:
        own = foundation.predict(latents, timestep, told.rows, told.looks, told.shown)
        with foundation.adapters.suspended():
            named, empty = foundation.predict(both, timestep, rows, None, shown).chunk(2)
    else:
        named, empty = foundation.predict(both, timestep, rows, looks, shown).chunk(2)
        own = named
    return own + (config.guidance - 1) * (named - empty)


def _step_arguments(scheduler: Any, generators: list[torch.Generator]) -> dict[str, Any]:
    # Stochastic schedulers (ancestral, SDE, DDPM) draw noise in every step.
    accepted = inspect.signature(scheduler.step).parameters
    drawn: dict[str, Any] = {"generator": generators} if "generator" in accepted else {}
    # As the pipelines pass it, whatever a solver's own default is (TCD: 0.3).
    return drawn | ({"eta": 0.0} if "eta" in accepted else {})
