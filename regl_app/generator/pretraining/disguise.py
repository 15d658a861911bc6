"""Deterministic disguises: the same things, looking unlike the clients' images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torchvision.transforms.v2 import functional as tv

from regl_app.core.errors import ConfigError

_BLUR, _SIGMA = 5, 1.0
_DEGREES = 20.0

DISGUISES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType(
    {
        "inverted": lambda images: 255 - images,
        "blurred": lambda images: tv.gaussian_blur(images, [_BLUR, _BLUR], [_SIGMA, _SIGMA]),
        # The corners that come in are black, as the background of digits and garments is.
        "rotated": lambda images: tv.rotate(images, _DEGREES, tv.InterpolationMode.BILINEAR),
    }
)


def apply_disguise(images: torch.Tensor, look: str) -> torch.Tensor:
    """Return uint8 images ``(N, C, H, W)`` after the steps of ``look``, in their order.

    'inverted' is 255 - x, 'blurred' a Gaussian of sigma 1 pixel, 'rotated' by 20 degrees; several
    are joined by '+'.

    Raises:
        ConfigError: a step is unknown.
    """
    for step in look.split("+"):
        if step not in DISGUISES:
            raise ConfigError(f"look must be of {', '.join(DISGUISES)} joined by '+', got {look!r}")
        images = DISGUISES[step](images)
    return images
