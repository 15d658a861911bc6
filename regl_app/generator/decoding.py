"""Latents to images: the VAE's decoder, in portions."""

from __future__ import annotations

import torch

from regl_app.data.images import to_uint8
from regl_app.data.resize import fit
from regl_app.generator.finite import check_decoded
from regl_app.generator.foundation import Foundation
from regl_app.generator.portions import in_portions


@torch.no_grad()
def decode_latents(
    foundation: Foundation,
    latents: torch.Tensor,
    at_once: int,
    shape: tuple[int, int, int] | None = None,
) -> torch.Tensor:
    """Return images, uint8 ``(N, C, H, W)`` on the CPU, of scaled latents ``(N, c, h, w)``.

    Args:
        foundation: whose decoder shows them.
        latents: scaled, as ``sample_latents`` makes them.
        at_once: most images decoded at once.
        shape: ``(C, H, W)`` that they are brought to; None: RGB at the generator's size.

    Raises:
        GeneratorError: what the VAE makes of them is not finite, or does not fit into memory.
    """

    def decode(part: slice) -> torch.Tensor:
        decoded = foundation.decode(latents[part])
        check_decoded(foundation, decoded)
        images = to_uint8(decoded).cpu()
        return images if shape is None else fit(images, shape)

    side = foundation.image_size
    images = in_portions(foundation, "decoding", len(latents), at_once, decode)
    return torch.cat(images) if images else torch.empty(0, *(shape or (3, side, side))).byte()
