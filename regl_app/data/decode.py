"""Decoding image files of mixed formats and sizes into one uint8 tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from regl_app.config.sections import FitRule
from regl_app.core.errors import DataError
from regl_app.core.types import Indices
from regl_app.data.picture_formats import formats_for
from regl_app.data.pixels import (
    GRAY_MODES,
    orientation,
    quiet_pillow,
    raw_mode,
    shallow_pixels,
    upright,
)
from regl_app.data.resize import own_side, to_square

_TOLD = 10
DECODING = 2
"""Counts up whenever a picture that could be read becomes other pixels: what is stored is stale."""


@dataclass(frozen=True)
class Decoded:
    """Squares of one size, uint8 ``(N, C, size, size)``, and what sides they could have had.

    ``sides`` ``(N,)`` are in pixels: a larger square than that is an enlargement.
    """

    images: torch.Tensor
    sides: Indices


def decode_images(
    files: Iterable[tuple[str, Path | bytes]],
    size: int,
    channels: int | None = None,
    rule: FitRule = "crop",
) -> Decoded:
    """Return ``files`` as squares of ``size``; C is 1 if every image is gray, else 3.

    Args:
        files: (name for messages, path or encoded bytes).
        size: side of the result.
        channels: 1 or 3, to have that many.
        rule: how what is no square becomes one (``to_square``).

    Raises:
        DataError: names the files that cannot be decoded, the first ten.
    """
    from PIL import Image, UnidentifiedImageError

    quiet_pillow()
    images, sides, problems = [], [], []
    for name, file in files:
        stream = BytesIO(file) if isinstance(file, bytes) else file
        try:
            with Image.open(stream, formats=formats_for(name)) as image:
                raw = raw_mode(image)
                image.load()
                gray = image.mode in GRAY_MODES if channels is None else channels == 1
                # 16-bit and float images are scaled, which PIL's convert would clip.
                pixels = (
                    _to_8_bit(np.asarray(image))
                    if image.mode in ("I", "I;16", "F")
                    else shallow_pixels(image, raw, gray)
                )
                pixels = upright(pixels, orientation(image))
        except (
            UnidentifiedImageError,
            OSError,
            SyntaxError,
            ValueError,  # a text in it that is too large
            Image.DecompressionBombError,
        ) as error:
            problems.append(f"{name}: not a readable image ({error}); repair the file or remove it")
            continue
        tensor = torch.from_numpy(np.array(pixels))
        planes = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
        sides.append(own_side(planes.shape[1], planes.shape[2], rule))
        images.append(to_square(planes[None], size, rule)[0])
    if problems:
        more = f"\n{len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        raise DataError("\n".join(problems[:_TOLD]) + more)
    found = np.array(sides, dtype=np.int64)
    if not images:
        return Decoded(torch.empty((0, channels or 1, size, size), dtype=torch.uint8), found)
    channels = channels or max(image.shape[0] for image in images)
    return Decoded(torch.stack([image.expand(channels, size, size) for image in images]), found)


def _to_8_bit(
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    values = pixels.astype(np.float64)
    highest = 65535.0 if values.max(initial=0.0) > 255 else 255.0
    return np.clip(np.round(values * (255 / highest)), 0, 255).astype(np.uint8)
