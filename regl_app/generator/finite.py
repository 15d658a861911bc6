"""Nothing that is not finite is stored or trained on: whose fault it is, and what to change."""

from __future__ import annotations

import torch

from regl_app.core.errors import GeneratorError
from regl_app.generator.foundation import Foundation


class NotFiniteError(GeneratorError):
    """What a part of the generator made has NaN or infinity."""


def check_denoised(foundation: Foundation, latents: torch.Tensor, *, steered: bool) -> None:
    """Raise a NotFiniteError if denoised ``latents`` (N, c, h, w) are not all finite.

    Args:
        foundation: the model, with the adapter of the moment merged.
        latents: as the last step left them.
        steered: whether discrepancy guidance, and with it the decoder, had a part in them.
    """
    odd = _odd(latents)
    if odd:
        remedies = [] if foundation.precision == "fp32" else ["set generator.precision=fp32"]
        if foundation.adapters.filled:
            remedies.append("tune the adapter with a lower lora.lr or dpo.lr")
        if steered:
            remedies.append("lower steering.strength")
        raise NotFiniteError(
            f"denoising in {foundation.precision} ends in NaN or infinity for {odd} of "
            f"{len(latents)} images: the fault is the {foundation.family.part}'s"
            f"{' or its adapter' * foundation.adapters.filled}, not the VAE's "
            f"({', or '.join(remedies) or _OTHER})"
        )


def check_decoded(foundation: Foundation, images: torch.Tensor) -> None:
    """Raise a NotFiniteError if the VAE's ``images`` (N, 3, H, W) are not all finite."""
    odd = _odd(images)
    if odd:
        raise NotFiniteError(
            f"the VAE decodes {odd} of {len(images)} latents to NaN or infinity {_vae(foundation)}"
        )


def check_encoded(foundation: Foundation, latents: torch.Tensor) -> None:
    """Raise a NotFiniteError if the VAE's ``latents`` (N, c, h, w) are not all finite."""
    odd = _odd(latents)
    if odd:
        raise NotFiniteError(
            f"the VAE encodes {odd} of {len(latents)} images to NaN or infinity {_vae(foundation)}"
        )


_OTHER = "the checkpoint of generator.path is damaged: take another"


def _odd(values: torch.Tensor) -> int:
    """Return how many of ``values`` (N, ...) are not finite throughout."""
    return int((~values.isfinite().flatten(1).all(1)).sum())


def _vae(foundation: Foundation) -> str:
    precision = foundation.vae_precision
    remedy = _OTHER if precision == "fp32" else "set generator.precision=fp32"
    return f"in {precision} ({remedy})"
