"""Bringing images of any size to the classifier's square."""

from __future__ import annotations

import torch
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
