"""A VAE whose memory does not hold one picture goes over it in tiles that overlap."""

from __future__ import annotations

from regl_app.core.log import logger
from regl_app.generator.foundation import Foundation

LEAST_TILE = 128
"""Pixels a side below which tiles are not cut: hardly more than their overlap would be seen."""


def smaller_tiles(foundation: Foundation) -> bool:
    """Let a foundation's VAE work in tiles of half the side; return whether there are any smaller.

    Of a picture's side the first time. From then on, for the process: pixels at the seams are
    blended, and each tile is normalised by itself, so that images differ a little.
    """
    vae, whole = foundation.vae, foundation.image_size
    now = getattr(vae, "tile_sample_min_size", getattr(vae, "tile_sample_min_width", None))
    if now is None:
        return False
    tile = (min(now, whole) if vae.use_tiling else whole) // 2
    # Tiles overlap by a quarter: not whole in latents, it would leave pictures of another size.
    if tile < LEAST_TILE or tile % (4 * foundation.factor):
        return False
    if hasattr(vae, "tile_sample_min_size"):
        vae.enable_tiling()
        vae.tile_sample_min_size = tile
        vae.tile_latent_min_size = tile // foundation.factor
    else:  # Sana's deep autoencoder
        vae.enable_tiling(tile, tile, tile * 3 // 4, tile * 3 // 4)
    logger.warning(
        "the memory of %s does not hold one picture of %d x %d pixels in the generator's VAE: it "
        "works in tiles of %d pixels from now on, which may be seen",
        foundation.device,
        whole,
        whole,
        tile,
    )
    return True
