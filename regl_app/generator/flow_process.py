"""Flow matching, as Stable Diffusion 3 and Flux are trained: straight lines from noise to data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch

from regl_app.generator.noise_schedule import NoiseLevel, NoiseProcess, stratified


@dataclass(frozen=True)
class FlowProcess(NoiseProcess):
    """``x_t = (1 - sigma_t) x_0 + sigma_t eps``, predicted as the velocity ``eps - x_0``.

    (Lipman et al. 2023; Esser et al. 2024, section 2.)

    Args:
        sigmas: of the training timesteps, ``(T,)``; the timestep of sigma is ``T sigma``.
    """

    sigmas: torch.Tensor

    @classmethod
    def of(cls, scheduler: Any, device: torch.device, _min_snr: float) -> Self:
        """Return the process of a flow-matching scheduler; its loss weights are all one."""
        if hasattr(scheduler, "scale_noise"):
            # A fresh one, as set_timesteps replaces the table.
            fresh = type(scheduler).from_config(scheduler.config)
            return cls(fresh.sigmas.to(device, torch.float32))
        # A solver of diffusion that can do this too has diffusion's table until its steps are set.
        count = int(scheduler.config.num_train_timesteps)
        even = torch.linspace(1.0, 1 / count, count)
        shift = float(scheduler.config.flow_shift)
        return cls((shift * even / (1 + (shift - 1) * even)).to(device))

    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return stratified training timesteps, float32 ``(count,)``, in random order."""
        steps = len(self.sigmas)
        places = stratified(count, steps, generator)
        return self.sigmas[places.to(self.sigmas.device)] * steps

    def level(self, timesteps: torch.Tensor, *, least: float = 0.0) -> NoiseLevel:
        """Return ``1 - sigma_t`` and ``sigma_t``; any timestep is one, training's or between."""
        sigma = (timesteps.float() / len(self.sigmas)).view(-1, 1, 1, 1)
        sigma = sigma.clamp(max=1 - least**0.5)
        return NoiseLevel(1 - sigma, sigma, sigma / (1 - sigma))

    def target(self, clean: torch.Tensor, noise: torch.Tensor, _level: NoiseLevel) -> torch.Tensor:
        """Return the velocity ``eps - x_0``, the same all along the line."""
        return noise - clean

    def split(
        self, noisy: torch.Tensor, prediction: torch.Tensor, level: NoiseLevel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise and the clean latents at the two ends of the predicted line."""
        return noisy + level.signal * prediction, noisy - level.noise * prediction

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Return ones: the velocity's error counts the same everywhere."""
        return torch.ones_like(timesteps, dtype=torch.float32)

    def start(self, _scheduler: Any, noise: torch.Tensor) -> torch.Tensor:
        """Return the noise itself: sigma starts at one."""
        return noise

    def start_from(
        self, scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """Return ``clean`` on its way to ``noise``, as far as ``timestep`` says."""
        timesteps = timestep.repeat(len(clean))
        if hasattr(scheduler, "scale_noise"):
            latents: torch.Tensor = scheduler.scale_noise(clean, timesteps, noise)
        else:
            latents = scheduler.add_noise(clean, noise, timesteps)
        return latents

    def scaled(
        self, _scheduler: Any, latents: torch.Tensor, _timestep: torch.Tensor
    ) -> torch.Tensor:
        """Return the latents themselves, which are ``x_t``."""
        return latents


def is_flow(scheduler: Any) -> bool:
    """Return whether a scheduler solves flow matching; solvers of diffusion may be told to."""
    return (
        hasattr(scheduler, "scale_noise")
        or scheduler.config.get("prediction_type") == "flow_prediction"
    )
