"""Discrepancy guidance: lead the sampler to what a client lacks, without any tuning (ours).

After classifier guidance (Dhariwal and Nichol 2021) and guidance by a downstream model's own need
(Askari-Hemmat et al. 2025): here the guide is the gap between the global and the local model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # the community's name for it
from torch import nn

from regl_app.data.resize import fit_floats
from regl_app.generator.foundation import Foundation
from regl_app.generator.noise_schedule import NoiseProcess

_LEAST_SIGNAL = 1e-5  # power of x0 in x_t; schedules with zero terminal SNR go below

Gap = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def log_gap(global_model: nn.Module, local_model: nn.Module) -> Gap:
    """Return ``log p_G(y|x) - log p_L(y|x)`` as a differentiable function of ``(x, y)``.

    x are images in [-1, 1] as the classifiers take them, ``(N, C, H, W)``; y labels, ``(N,)``.
    """

    def gap(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        per_model = [
            F.log_softmax(model(images), dim=1).gather(1, labels[:, None]).squeeze(1)
            for model in (global_model, local_model)
        ]
        return per_model[0] - per_model[1]

    return gap


@dataclass(frozen=True)
class DiscrepancyGuidance:
    """Adds the discrepancy's gradient to every prediction of the noise.

    With the predicted clean latent ``x0``, seen through the decoder (here for diffusion)::

        eps' = eps - w * sqrt(1 - abar_t) * grad_x [log p_G(y|x0) - log p_L(y|x0)]

    The denoiser counts as constant in the gradient (``dx0/dx = 1/sqrt(abar_t)``), so it costs a
    pass through decoder and classifiers only. Where ``abar_t`` is small the gradient explodes and
    ``x0`` means little: the correction is limited to ``limit`` times the norm of the noise.

    Args:
        process: what the checkpoint was trained with.
        gap: the two models' disagreement, of images of ``shape``.
        shape: ``(C, H, W)`` of the classifiers' images.
        strength: w; 0 leaves every bit of the prediction as it is.
        limit: largest correction over the norm of the predicted noise.
    """

    process: NoiseProcess
    gap: Gap
    shape: tuple[int, int, int]
    strength: float
    limit: float = 0.2

    def adjust(
        self,
        foundation: Foundation,
        latents: torch.Tensor,
        prediction: torch.Tensor,
        timestep: torch.Tensor,
        labels: torch.Tensor,
    ) -> torch.Tensor:
        """Return the adjusted prediction ``(N, c, h, w)``, of the checkpoint's own type.

        Args:
            foundation: whose decoder shows the images.
            latents: the denoiser's input ``x_t``, the process's own whatever the scheduler is.
            prediction: the denoiser's output for it.
            timestep: t, one for all.
            labels: classes, ``(N,)``.
        """
        if self.strength == 0:
            return prediction
        level = self.process.level(timestep, least=_LEAST_SIGNAL)
        noise, clean = self.process.split(latents, prediction, level)
        with torch.enable_grad():
            seen = clean.detach().requires_grad_()
            images = fit_floats(foundation.decode(seen), self.shape).clamp(-1, 1)
            (gradient,) = torch.autograd.grad(self.gap(images, labels).sum(), seen)
        shift = self.strength * level.ratio * gradient
        norms = shift.flatten(1).norm(dim=1), noise.flatten(1).norm(dim=1)
        scale = (self.limit * norms[1] / norms[0].clamp(min=1e-12)).clamp(max=1.0)
        adjusted = noise - scale.view(-1, 1, 1, 1) * shift
        # Consistent with the same x_t = signal x0 + noise eps.
        clean = (latents - level.noise * adjusted) / level.signal
        return self.process.target(clean, adjusted, level)
