"""Bringing images of any size to the classifier's square."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # the community's name for it

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
        _resized(part.float(), size, size).round_().clamp_(0, 255).to(torch.uint8)
        for part in torch.split(images, _CHUNK)
    ]
    return torch.cat(parts)


_LUMA = (0.299, 0.587, 0.114)


def fit(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return uint8 images resized (bilinear, antialiased) and recoloured to ``shape`` (C, H, W).

    Colour becomes grey by luma (ITU-R 601); grey becomes colour by repetition.
    """
    if images.shape[1:] == tuple(shape):
        return images
    if len(images) == 0:
        return torch.empty((0, *shape), dtype=torch.uint8)
    values = fit_floats(images.float(), shape)
    return values.round().clamp(0, 255).to(torch.uint8).contiguous()


def fit_floats(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return float images of any range as ``fit`` does, without rounding: differentiable."""
    channels, height, width = shape
    if images.shape[1] == 3 and channels == 1:
        luma = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
        images = (images * luma).sum(1, keepdim=True)
    if images.shape[2:] != (height, width):
        images = _resized(images, height, width)
    return images.expand(-1, channels, -1, -1)


def _resized(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(
        images, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
