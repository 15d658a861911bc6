"""Deterministic disguises: the same things, looking unlike the clients' images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch.nn import functional
from torchvision.transforms.v2 import functional as tv

from regl_app.core.errors import ConfigError

_BLUR, _SIGMA = 5, 1.0
_DEGREES = 20.0
_SHRINK = 0.75


def _outline(images: torch.Tensor) -> torch.Tensor:
    here = images[..., :-1, :-1].float()
    down, right = images[..., 1:, :-1] - here, images[..., :-1, 1:] - here
    edges = torch.hypot(down, right).clamp(max=255).to(torch.uint8)
    # The last row and column have no neighbours.
    return functional.pad(edges, (0, 1, 0, 1))


def _shrink(images: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[-2:]
    small = [round(_SHRINK * height), round(_SHRINK * width)]
    top, left = (height - small[0]) // 2, (width - small[1]) // 2
    around = (left, width - small[1] - left, top, height - small[0] - top)
    return functional.pad(tv.resize(images, small, antialias=True), around)


DISGUISES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType(
    {
        "inverted": lambda images: 255 - images,
        "blurred": lambda images: tv.gaussian_blur(images, [_BLUR, _BLUR], [_SIGMA, _SIGMA]),
        # The corners that come in are black, as the background of digits and garments is.
        "rotated": lambda images: tv.rotate(images, _DEGREES, tv.InterpolationMode.BILINEAR),
        "sheared": lambda images: tv.affine(
            images, 0.0, [0, 0], 1.0, [_DEGREES, 0.0], tv.InterpolationMode.BILINEAR
        ),
        "shrunk": _shrink,
        "mirrored": lambda images: tv.horizontal_flip(images),
        "outlined": _outline,
    }
)


def apply_disguise(images: torch.Tensor, look: str) -> torch.Tensor:
    """Return uint8 images ``(N, C, H, W)`` after the steps of ``look``, in their order.

    'inverted' is 255 - x, 'blurred' a Gaussian of sigma 1 pixel, 'rotated' by 20 degrees, 'sheared'
    along x by 20 degrees, 'shrunk' to 75 % amid black, 'mirrored' left to right, 'outlined' the
    magnitude of the gradient; several are joined by '+'.

    Raises:
        ConfigError: a step is unknown.
    """
    for step in look.split("+"):
        if step not in DISGUISES:
            raise ConfigError(f"look must be of {', '.join(DISGUISES)} joined by '+', got {look!r}")
        images = DISGUISES[step](images)
    return images
