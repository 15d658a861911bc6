"""Image conditioning: a client's own pictures as latents, to tune on and to start from."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # the community's name for it

from regl_app.data.images import to_float
from regl_app.generator.foundation import Foundation

_LUMA = (0.299, 0.587, 0.114)


@torch.no_grad()
def encode_latents(
    foundation: Foundation, images: torch.Tensor, batch_size: int = 250
) -> torch.Tensor:
    """Return scaled latents, float32 ``(N, c, h, w)``, of uint8 images ``(N, C, H, W)``."""
    size = foundation.image_size
    parts = [
        foundation.encode(
            to_float(fit(images[i : i + batch_size], (3, size, size))).to(foundation.device)
        )
        for i in range(0, len(images), batch_size)
    ]
    if not parts:
        return torch.empty((0, *foundation.latent_shape), device=foundation.device)
    return torch.cat(parts)


def fit(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return uint8 images resized (bilinear, antialiased) and recoloured to ``shape`` (C, H, W).

    Colour becomes grey by luma (ITU-R 601); grey becomes colour by repetition.
    """
    channels, height, width = shape
    if images.shape[1:] == (channels, height, width):
        return images
    if len(images) == 0:
        return torch.empty((0, *shape), dtype=torch.uint8)
    values = images.float()
    if images.shape[1] == 3 and channels == 1:
        luma = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
        values = (values * luma).sum(1, keepdim=True)
    if values.shape[2:] != (height, width):
        values = F.interpolate(
            values, size=(height, width), mode="bilinear", antialias=True, align_corners=False
        )
    values = values.expand(-1, channels, -1, -1)
    return values.round().clamp(0, 255).to(torch.uint8).contiguous()


def takes_image(index: int, share: float) -> bool:
    """Return whether image ``index`` of a minority class starts from a real picture.

    Spread evenly: of any first n images, ``share * n`` do, rounded down.
    """
    return int((index + 1) * share) > int(index * share)


def start_position(index: int, share: float, available: int) -> int:
    """Return which of ``available`` real pictures image ``index`` starts from, in turn."""
    return int(index * share) % available
