"""Image conditioning: a client's own pictures as latents, to tune on and to start from."""

from __future__ import annotations

import torch

from regl_app.data.images import to_float
from regl_app.data.pictures import Pictures
from regl_app.data.resize import fit
from regl_app.generator.finite import check_encoded
from regl_app.generator.foundation import Foundation
from regl_app.generator.portions import AT_ONCE, in_portions


@torch.no_grad()
def encode_latents(
    foundation: Foundation,
    images: Pictures,
    at_once: int = AT_ONCE,
    kept: torch.device | None = None,
) -> torch.Tensor:
    """Return scaled latents, float32 ``(N, c, h, w)``, of uint8 images ``(N, C, H, W)``.

    At most ``at_once`` images are encoded at once; each time, what is made goes to ``kept``, by
    default the foundation's device.

    Raises:
        GeneratorError: what the VAE makes of them is not finite, or does not fit into memory.
    """
    size, kept = foundation.image_size, kept or foundation.device

    def encode(part: slice) -> torch.Tensor:
        pictures = to_float(fit(images[part], (3, size, size))).to(foundation.device)
        latents = foundation.encode(pictures)
        check_encoded(foundation, latents)
        return latents.to(kept)

    parts = in_portions(foundation, "encoding", len(images), at_once, encode)
    if not parts:
        return torch.empty((0, *foundation.latent_shape), device=kept)
    return torch.cat(parts)


def takes_image(index: int, share: float) -> bool:
    """Return whether image ``index`` of a minority class starts from a real picture.

    Spread evenly: of any first n images, ``share * n`` do, rounded down.
    """
    return int((index + 1) * share) > int(index * share)


def start_position(index: int, share: float, available: int) -> int:
    """Return which of ``available`` real pictures image ``index`` starts from, in turn."""
    return int(index * share) % available
