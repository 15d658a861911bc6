"""Train the autoencoder of the bundled generator: images 32x32x3 to latents 8x8x4 and back."""

from __future__ import annotations

from typing import Any

import torch

from regl_app.data.images import to_float
from regl_app.generator.pretraining.optimizer import LossProgress, one_cycle_step, optimizer_for

_LATENT_NOISE = 0.1


def train_autoencoder(
    images: torch.Tensor,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    generator: torch.Generator,
    progress: LossProgress,
) -> Any:
    """Return an ``AutoencoderTiny`` (about 0.3 M parameters) whose latents have unit variance.

    The loss is L1 + MSE plus a weak pull of latents to zero; noise on the latents makes the
    decoder smooth, so that sampled latents decode as well as encoded ones.

    Args:
        images: uint8 ``(N, 3, 32, 32)``.
        steps: optimizer steps.
        batch_size: images per step.
        lr: peak learning rate of the one-cycle schedule.
        generator: source of all randomness but the initial weights.
        progress: called after each step.
    """
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 2, 2),
        num_decoder_blocks=(2, 2, 1),
        latent_channels=4,
        force_upcast=False,
    ).to(memory_format=torch.channels_last)
    optimizer = optimizer_for(vae.parameters(), lr)
    for step in range(steps):
        chosen = torch.randint(len(images), (batch_size,), generator=generator)
        x = to_float(images[chosen]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(x).latents.float()
            noisy = latents + _LATENT_NOISE * torch.randn(latents.shape, generator=generator)
            error = vae.decode(noisy).sample.float() - x
        loss = error.abs().mean() + error.square().mean() + 1e-3 * latents.square().mean()
        one_cycle_step(optimizer, loss, step, steps, lr)
        progress("autoencoder", step + 1, steps, loss.item())
    vae.eval().requires_grad_(False)
    deviation = encode(vae, images[:2000]).std().item()
    vae.register_to_config(scaling_factor=1.0 / deviation)
    return vae


def encode(vae: Any, images: torch.Tensor, batch_size: int = 500) -> torch.Tensor:
    """Return scaled latents, float32 ``(N, 4, 8, 8)``, of uint8 images ``(N, 3, 32, 32)``."""
    parts = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for chunk in torch.split(images, batch_size):
            x = to_float(chunk).contiguous(memory_format=torch.channels_last)
            parts.append(vae.encode(x).latents.float())
    return torch.cat(parts) * float(vae.config.scaling_factor)
