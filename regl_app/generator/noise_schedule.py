"""Noise processes: what noise does to latents, and what of it the denoiser predicts.

A process is what a checkpoint was trained with; a scheduler solves it. All that depends on which
of the two kinds of process it is, diffusion or flow matching, stands behind ``NoiseProcess``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch

from regl_app.core.transfer import to_device


@dataclass(frozen=True)
class NoiseLevel:
    """``x_t = signal * x_0 + noise * eps``, each ``(N, 1, 1, 1)``; ``ratio = noise / signal``."""

    signal: torch.Tensor
    noise: torch.Tensor
    ratio: torch.Tensor


class NoiseProcess(Protocol):
    """Training's noise and targets, and what sampling asks beside the solver's steps."""

    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return stratified training timesteps, ``(count,)``, in random order."""

    def level(self, timesteps: torch.Tensor, *, least: float = 0.0) -> NoiseLevel:
        """Return how much of ``x_0`` and of noise is in ``x_t``.

        Args:
            timesteps: ``(N,)``, or one for all, ``()``.
            least: share of the signal's power below which it counts as this, to divide by it.
        """

    def target(self, clean: torch.Tensor, noise: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        """Return what the denoiser should predict, ``(N, c, h, w)``."""

    def split(
        self, noisy: torch.Tensor, prediction: torch.Tensor, level: NoiseLevel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise and the clean latents that a prediction at ``noisy`` stands for."""

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the weights of the training loss, ``(N,)``."""

    def start(self, scheduler: Any, noise: torch.Tensor) -> torch.Tensor:
        """Return the latents that sampling starts from, of standard normal ``noise``."""

    def start_from(
        self, scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """Return the latents that sampling from pictures starts from at ``timestep`` (1,)."""

    def scaled(self, scheduler: Any, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the denoiser's input for the scheduler's ``latents``: the process's own x_t."""

    def draw(
        self, latents: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return noisy latents ``(N, c, h, w)``, timesteps ``(N,)``, targets and weights ``(N,)``.

        Timesteps are stratified over the batch: same expectation, less variance per step.
        """
        timesteps = to_device(self.timesteps(len(latents), generator), latents.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents.dtype)
        noise = to_device(noise, latents.device)
        noisy, target = self.apply(latents, timesteps, noise)
        return noisy, timesteps, target, self.weights(timesteps)

    def apply(
        self, latents: torch.Tensor, timesteps: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noisy latents and the denoiser's target there, both ``(N, c, h, w)``."""
        level = self.level(timesteps)
        noisy = level.signal * latents + level.noise * noise
        return noisy, self.target(latents, noise, level)


def stratified(count: int, places: int, generator: torch.Generator) -> torch.Tensor:
    """Return ``count`` places below ``places``, int64, one per equal part, in random order."""
    offset = torch.rand((), generator=generator)
    shares = (torch.randperm(count, generator=generator) + offset) / count
    return (shares * places).long().clamp(max=places - 1)


@dataclass(frozen=True)
class DiffusionProcess(NoiseProcess):
    """``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`` on a checkpoint's own noise schedule.

    Args:
        alphas_cumprod: abar of every training timestep, ``(T,)``.
        prediction_type: 'epsilon', 'v_prediction' or 'sample'.
        min_snr: gamma of the loss weights; 0: all are one.
    """

    alphas_cumprod: torch.Tensor
    prediction_type: str
    min_snr: float

    @classmethod
    def of(cls, scheduler: Any, device: torch.device, min_snr: float) -> Self:
        """Return the process the checkpoint was trained with, whatever its solver is."""
        from diffusers import DDPMScheduler

        schedule = DDPMScheduler.from_config(scheduler.config)
        abar = schedule.alphas_cumprod.to(device, torch.float32)
        return cls(abar, str(scheduler.config.prediction_type), min_snr)

    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return stratified training timesteps, int64 ``(count,)``, in random order."""
        return stratified(count, len(self.alphas_cumprod), generator)

    def level(self, timesteps: torch.Tensor, *, least: float = 0.0) -> NoiseLevel:
        """Return ``sqrt(abar_t)`` and ``sqrt(1 - abar_t)``; fractional timesteps are rounded."""
        last = len(self.alphas_cumprod) - 1
        abar = self.alphas_cumprod[timesteps.round().long().clamp(0, last)].view(-1, 1, 1, 1)
        abar = abar.clamp(min=least)
        return NoiseLevel(abar.sqrt(), (1 - abar).sqrt(), ((1 - abar) / abar).sqrt())

    def target(self, clean: torch.Tensor, noise: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        """Return the training target: eps, x_0 or ``v = sqrt(abar) eps - sqrt(1 - abar) x_0``."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "v_prediction":
            return level.signal * noise - level.noise * clean
        return clean

    def split(
        self, noisy: torch.Tensor, prediction: torch.Tensor, level: NoiseLevel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise and the clean latents that a prediction at ``noisy`` stands for."""
        signal, rest = level.signal, level.noise
        if self.prediction_type == "epsilon":
            return prediction, (noisy - rest * prediction) / signal
        if self.prediction_type == "v_prediction":
            return signal * prediction + rest * noisy, signal * noisy - rest * prediction
        return (noisy - signal * prediction) / rest, prediction

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Return min-SNR-gamma loss weights ``(N,)`` (Hang et al. 2023, section 3.4).

        ``min(SNR, gamma)`` in x_0 space; divided by SNR for eps and by SNR + 1 for v prediction.
        """
        if self.min_snr == 0:
            return torch.ones_like(timesteps, dtype=torch.float32)
        abar = self.alphas_cumprod[timesteps]
        snr = abar / (1 - abar)
        weight = snr.clamp(max=self.min_snr)
        if self.prediction_type == "epsilon":
            # At zero terminal SNR the limit of min(SNR, gamma) / SNR is 1.
            return torch.where(snr > 0, weight / snr.clamp(min=1e-12), torch.ones_like(snr))
        if self.prediction_type == "v_prediction":
            return weight / (snr + 1)
        return weight

    def start(self, scheduler: Any, noise: torch.Tensor) -> torch.Tensor:
        """Return noise at the solver's own scale."""
        latents: torch.Tensor = noise * scheduler.init_noise_sigma
        return latents

    def start_from(
        self, scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """Return ``clean`` with the noise of ``timestep``, at the solver's own scale."""
        latents: torch.Tensor = scheduler.add_noise(clean, noise, timestep.repeat(len(clean)))
        return latents

    def scaled(self, scheduler: Any, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return ``x_t`` itself, of unit variance: some solvers keep latents at another scale."""
        scaled: torch.Tensor = scheduler.scale_model_input(latents, timestep)
        return scaled
