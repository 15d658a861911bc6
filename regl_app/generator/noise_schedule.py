"""The forward process of training: noisy latents, what the UNet should predict, loss weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from regl_app.generator.foundation import Foundation


@dataclass(frozen=True)
class NoiseSchedule:
    """``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`` on a checkpoint's own noise schedule."""

    alphas_cumprod: torch.Tensor
    prediction_type: str
    min_snr: float

    @classmethod
    def of(cls, foundation: Foundation, min_snr: float) -> Self:
        """Return the process the checkpoint was trained with, whatever its solver is."""
        from diffusers import DDPMScheduler

        schedule = DDPMScheduler.from_config(foundation.scheduler.config)
        abar = schedule.alphas_cumprod.to(foundation.device, torch.float32)
        return cls(abar, foundation.prediction_type, min_snr)

    def draw(
        self, latents: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return noisy latents ``(N, c, h, w)``, timesteps ``(N,)``, targets and weights ``(N,)``.

        Timesteps are stratified over the batch: same expectation, less variance per step.
        """
        timesteps = self.timesteps(len(latents), generator).to(latents.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy, target = self.apply(latents, timesteps, noise)
        return noisy, timesteps, target, self.weights(timesteps)

    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return stratified training timesteps, int64 ``(count,)``, in random order."""
        steps = len(self.alphas_cumprod)
        offset = torch.rand((), generator=generator)
        places = (torch.randperm(count, generator=generator) + offset) / count
        return (places * steps).long().clamp(max=steps - 1)

    def apply(
        self, latents: torch.Tensor, timesteps: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noisy latents and the UNet's target there, both ``(N, c, h, w)``."""
        abar = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        noisy = abar.sqrt() * latents + (1 - abar).sqrt() * noise
        return noisy, self.target(latents, noise, abar)

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, abar: torch.Tensor
    ) -> torch.Tensor:
        """Return the training target: eps, x_0 or ``v = sqrt(abar) eps - sqrt(1 - abar) x_0``."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "v_prediction":
            return abar.sqrt() * noise - (1 - abar).sqrt() * latents
        return latents

    def split(
        self, noisy: torch.Tensor, prediction: torch.Tensor, abar: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the noise and the clean latents that a prediction at ``noisy`` stands for."""
        signal, rest = abar.sqrt(), (1 - abar).sqrt()
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
