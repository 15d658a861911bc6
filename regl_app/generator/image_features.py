"""Image features: what the generator sees in a client's own pictures, a vector each."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # the community's name for it

from regl_app.data.pictures import Pictures
from regl_app.generator.foundation import Foundation
from regl_app.generator.held_weights import WeightsTooLargeError
from regl_app.generator.image_encoder import ImageEncoder
from regl_app.generator.portions import in_portions

_SIDE = 8
"""Of the thumbnail of latents that stands for a picture where there is no image encoder."""


@torch.no_grad()
def image_features(
    foundation: Foundation,
    pictures: Pictures,
    latents: torch.Tensor,
    at_once: int,
    encoder: ImageEncoder | None = None,
) -> torch.Tensor:
    """Return a vector for each picture, float32 ``(N, F)``.

    By ``encoder``, or the checkpoint's own where its pipeline has one; else a thumbnail of the
    picture's latents: the VAE is every checkpoint's own image encoder.

    Args:
        foundation: the generator.
        pictures: uint8 ``(N, C, H, W)`` of any side.
        latents: what the VAE makes of them, scaled, ``(N, c, h, w)``, on any device; not looked at
            where there is an image encoder.
        at_once: pictures at once, at most.
        encoder: that the run names; None: none.

    Raises:
        GeneratorError: the encoder cannot be used, or memory does not hold it or a single picture.
    """
    encoder = encoder or foundation.image_encoder
    if encoder is None:
        side = min(_SIDE, latents.shape[-1])
        return F.adaptive_avg_pool2d(latents.float(), side).flatten(1).to(foundation.device)

    return read_pictures(foundation, pictures, at_once, encoder)


def read_pictures(
    foundation: Foundation, pictures: Pictures, at_once: int, encoder: ImageEncoder
) -> torch.Tensor:
    """Return what ``encoder`` makes of ``pictures`` (at least one), float32 ``(N, F)``.

    The generator waits elsewhere meanwhile, where the device's memory does not hold both.

    Raises:
        GeneratorError: as for ``image_features``.
    """
    placement = foundation.placement
    placement.use(None)
    try:
        return _read(foundation, pictures, at_once, encoder)
    except WeightsTooLargeError:
        if not placement.take_turns("the image encoder"):
            raise
    placement.use(None)
    return _read(foundation, pictures, at_once, encoder)


def _read(
    foundation: Foundation, pictures: Pictures, at_once: int, encoder: ImageEncoder
) -> torch.Tensor:
    with encoder.on(foundation.device) as features:

        def read(part: slice) -> torch.Tensor:
            foundation.placement.use(None)  # they may have come to take turns
            return features(pictures[part])

        parts = in_portions(foundation, "reading", len(pictures), at_once, read)
    return torch.cat(parts)
