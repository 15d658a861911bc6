"""Pixels of deep greyscale as they are stored, and what a file says of their range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regl_app.data.depth import Depth, Extent, to_8_bit
from regl_app.data.pixels import Pixels, orientation, raw_mode, upright

DEEP_MODES = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0
_ALL_16 = 65535.0
_AT_ONCE = 2**22  # pixels


@dataclass(frozen=True, eq=False)
class DeepPixels:
    """One picture ``(H, W)``, upright; ``transparent`` are the pixels that are to be white."""

    name: str
    shape: tuple[int, int]
    extent: Extent
    values: Pixels | None
    transparent: Pixels | None
    inverted: bool

    def shallow(self, depth: Depth) -> Pixels:
        """Return the pixels as uint8."""
        assert self.values is not None
        scale = depth.scale(self.extent)
        pixels = np.empty(self.shape, np.uint8)
        rows = max(1, _AT_ONCE // self.shape[1])
        for first in range(0, self.shape[0], rows):  # as floats they are many times as large
            some = self.values[first : first + rows].astype(np.float64)
            pixels[first : first + rows] = to_8_bit(some, scale)
        if self.inverted:
            pixels = 255 - pixels
        if self.transparent is not None:
            pixels = np.where(self.transparent, np.uint8(255), pixels)
        return pixels

    def forgotten(self) -> DeepPixels:
        """Return what is known of the picture without its pixels."""
        return replace(self, values=None, transparent=None)


def deep_pixels(name: str, image: Any) -> Callable[[], DeepPixels]:
    """Return what reads the pixels of ``image`` once that is loaded: its file is asked before."""
    promised, inverted = _promised(image), _is_inverted(image)

    def read() -> DeepPixels:
        turned = orientation(image)
        values = upright(np.asarray(image), turned)
        whole = image.mode != "F"
        finite = values if whole else values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        key = image.info.get("transparency")
        transparent = values == key if isinstance(key, int) else None
        extent = Extent(low, high, whole, promised)
        return DeepPixels(name, values.shape, extent, values, transparent, inverted)

    return read


def _promised(image: Any) -> float:
    """Return the highest value that a picture could have, 0.0 if its file does not say so."""
    # These are brought to 16 bits on reading, whatever they had.
    if image.format == "JPEG2000" or (image.format == "PPM" and raw_mode(image) == "L"):
        return _ALL_16
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (0,))[0]
        return 2.0**bits - 1 if 8 < bits < 16 else 0.0
    return 0.0


def _is_inverted(image: Any) -> bool:
    """Whether the least value is white, which Pillow heeds up to 8 bits."""
    return bool(image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE)
