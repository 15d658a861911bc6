"""The pixels of one opened picture as people see it: upright, on white where it is transparent."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
"""``(H, W)`` gray or ``(H, W, 3)``."""

GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
_WHITE = 255
_ORIENTATION = 0x0112
# Written by programs that leave the fourth byte of a pixel empty: zero there means nothing.
_EMPTY_ALPHA = frozenset({"BMP", "DIB", "TGA"})
_STEPS_OF_RAW_MODES = {"1": 255, "L;1": 255, "L;2": 85, "L;4": 17}


def quiet_pillow() -> None:
    """Keep Pillow from printing what it makes of metadata: damaged ones lose no picture."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"PIL\.")


def raw_mode(image: Any) -> str:
    """Return how the file of a picture that is not loaded yet stores its pixels, '' if unknown."""
    tiles = getattr(image, "tile", None) or []
    args = tiles[0][3] if tiles and len(tiles[0]) > 3 else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def orientation(image: Any) -> int:
    """Return a loaded picture's EXIF orientation, 1 to 8; 1 (as it is) where it has none."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever is wrong with the metadata, the pixels are there
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright(pixels: Pixels, turned: int) -> Pixels:
    """Return ``pixels`` as a viewer shows them whose EXIF orientation is ``turned``, 1 to 8."""
    if turned in (2, 3):
        pixels = pixels[:, ::-1]
    if turned in (3, 4):
        pixels = pixels[::-1]
    if turned in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if turned in (6, 7):
        pixels = pixels[:, ::-1]
    if turned in (7, 8):
        pixels = pixels[::-1]
    return pixels


def shallow_pixels(image: Any, raw: str, gray: bool) -> Pixels:
    """Return a loaded picture of 8 bits a sample, uint8, what is transparent composited on white.

    Args:
        image: of any mode but those of deep gray.
        raw: its ``raw_mode``.
        gray: whether it becomes gray, else colour.
    """
    from PIL import Image

    mode = "L" if gray else "RGB"
    found = _with_alpha(image, raw)
    if found is None:
        return np.asarray(image.convert(mode))
    colours, alpha = found
    if image.format in _EMPTY_ALPHA and not alpha.any():
        alpha = np.full_like(alpha, 255)
    opaque = Image.fromarray(_on_white(colours, alpha))
    return np.asarray(opaque.convert(mode))


def _with_alpha(image: Any, raw: str) -> tuple[Pixels, Pixels] | None:
    """Return colours ``(H, W)`` or ``(H, W, 3)`` and alpha ``(H, W)``; None if all is opaque."""
    if not image.has_transparency_data:
        return None
    key = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(key, int):
        values = np.asarray(image.convert("L"))
        return values, _all_but(values == key * _STEPS_OF_RAW_MODES.get(raw, 1))
    if image.mode == "RGB" and isinstance(key, tuple):
        values = np.asarray(image)
        wanted = np.array(key) >> 8 if ";16" in raw else np.array(key)
        return values, _all_but((values == wanted).all(axis=-1))
    if image.mode in ("LA", "La"):
        both = np.asarray(image.convert("LA"))
        return both[..., 0], both[..., 1]
    if image.mode in ("P", "PA", "RGBA", "RGBa"):
        four = np.asarray(image.convert("RGBA"))
        return four[..., :3], four[..., 3]
    return None


def _all_but(transparent: Pixels) -> Pixels:
    return np.where(transparent, 0, 255).astype(np.uint8)


def _on_white(colours: Pixels, alpha: Pixels) -> Pixels:
    share = alpha.astype(np.uint32)
    if colours.ndim == 3:
        share = share[..., None]
    mixed = (colours.astype(np.uint32) * share + _WHITE * (255 - share) + 127) // 255
    return mixed.astype(np.uint8)
