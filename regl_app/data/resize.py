"""Bringing images of any size to the classifier's square."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # the community's name for it
from torch.nn import functional

_CHUNK = 4096


def to_square(images: torch.Tensor, size: int) -> torch.Tensor:
    """Return ``(N, C, H, W)`` images in [0, 255] as uint8 ``(N, C, size, size)``.

    The largest centred square is cut out, then resized bilinearly with antialiasing.
    """
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = images[..., top : top + side, left : left + side]
    if side == size and images.dtype == torch.uint8:
        return images.contiguous()
    # In chunks: float copies of a large set would take several times its memory.
    parts = [
        functional.interpolate(
            part.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        for part in torch.split(images, _CHUNK)
    ]
    return torch.cat(parts)


_LUMA = (0.299, 0.587, 0.114)


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
