"""Portions: how many images go through the denoiser, the VAE or an image encoder at once.

As many as ``generator.batch-size`` says, fewer for the last two where images are large, and half as
many each time that the device's memory does not hold them; where it does not hold a single one,
what is idle leaves it (``placement.py``). What was learnt so holds for the process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from regl_app.core.errors import GeneratorError
from regl_app.core.log import logger
from regl_app.generator.foundation import Foundation
from regl_app.generator.held_weights import memory_of
from regl_app.generator.ran_out import tried
from regl_app.generator.vae_tiles import smaller_tiles

Work = Literal["denoising", "decoding", "encoding", "reading"]
"""By denoiser, VAE (two) and image encoder."""
AT_ONCE = 250
"""Images at once where nobody says: what ``generator.batch-size`` is for the bundled generator."""
VAE_PIXELS = 8 * 512 * 512
"""Pixels at once in the VAE: its widest maps have 128 channels or more at full size, so that eight
images of 512 x 512 need about a gigabyte for one of them in fp32."""
_fits: dict[tuple[object, ...], int] = {}


def in_portions(
    foundation: Foundation,
    work: Work,
    count: int,
    at_once: int,
    make: Callable[[slice], torch.Tensor],
) -> list[torch.Tensor]:
    """Return what ``make`` makes of each portion of ``count`` images, in order.

    Args:
        foundation: whose part works.
        work: which part's; all but the denoiser's portions also have at most ``VAE_PIXELS``.
        count: images, >= 0.
        at_once: images in a portion, at most, >= 1.
        make: is called with the places of a portion's images; again, with fewer of them, where
            memory ran out, so that it must give the same each time.

    Raises:
        GeneratorError: the device's memory does not hold a single image; in the VAE, not even in
            tiles.
    """
    key = (work, foundation.digest, foundation.image_size, foundation.precision, foundation.device)
    most = min(at_once, _most(work, foundation))
    size = min(most, _fits.get(key, most))
    made: list[torch.Tensor] = []
    begin, halved = 0, False
    while begin < count:
        part = slice(begin, min(begin + size, count))
        result = tried(partial(make, part))
        if result is not None:
            made.append(result)
            begin = part.stop
            continue
        length = part.stop - part.start
        if length == 1 and _made_room(foundation, work):
            size, halved = most, False  # several may fit now
            _fits.pop(key, None)
            continue
        if length == 1 and work in ("decoding", "encoding") and smaller_tiles(foundation):
            continue
        if length == 1:
            raise GeneratorError(too_large(foundation, f"{work} of a single image"))
        size, halved = length // 2, True
        _fits[key] = size
    if halved:
        logger.warning(
            "%s of %d x %d pixels: the memory of %s holds %d images at once, from now on "
            "(generator.batch-size=%d)",
            work,
            foundation.image_size,
            foundation.image_size,
            foundation.device,
            size,
            at_once,
        )
    return made


def _most(work: Work, foundation: Foundation) -> int:
    return sys.maxsize if work == "denoising" else decoded_at_once(foundation)


def decoded_at_once(foundation: Foundation) -> int:
    """Return how many images go through the VAE together, at most."""
    return max(VAE_PIXELS // foundation.image_size**2, 1)


def _made_room(foundation: Foundation, work: Work) -> bool:
    """Take off the device what can wait elsewhere; return whether there was anything."""
    placement = foundation.placement
    return placement.take_turns() or (work == "denoising" and placement.stream_layers())


def too_large(foundation: Foundation, what: str, remedies: str = "") -> str:
    """Return that ``what``, such as 'decoding of a single image', needs more memory than there is.

    ``remedies`` come beside those that help with everything.
    """
    device, side = foundation.device, foundation.image_size
    lower = "" if foundation.precision != "fp32" else ", set generator.precision=bf16 or fp16"
    return (
        f"{what} of {side} x {side} pixels in {foundation.precision} does not fit into {device} "
        f"with {memory_of(device)} (lower generator.image-size{remedies}{lower}, or take a device "
        "with more memory)"
    )
