"""Image conditioning: a client's own pictures as latents, to tune on and to start from."""

from __future__ import annotations

import torch

from regl_app.data.images import to_float
from regl_app.data.resize import fit
from regl_app.generator.foundation import Foundation


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


def takes_image(index: int, share: float) -> bool:
    """Return whether image ``index`` of a minority class starts from a real picture.

    Spread evenly: of any first n images, ``share * n`` do, rounded down.
    """
    return int((index + 1) * share) > int(index * share)


def start_position(index: int, share: float, available: int) -> int:
    """Return which of ``available`` real pictures image ``index`` starts from, in turn."""
    return int(index * share) % available
