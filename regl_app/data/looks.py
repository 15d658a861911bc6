"""Looks by name: the same things as other cameras, scanners or hands show them.

A run gives clients looks (``partition.looks``), `regl pretrain` disguises public images in one, so
that a generator learns what things are without how the clients' images look.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch.nn import functional

from regl_app.config.looks import PLAIN, Steps, parse_look
from regl_app.config.looks import parse_looks as parsed
from regl_app.core.errors import ConfigError
from regl_app.core.seeding import torch_generator

_SHEAR = 20.0
_SHRINK = 0.75

Step = Callable[[torch.Tensor, float, float], torch.Tensor]
"""Of uint8 images ``(N, C, H, W)``, an amount, and a scale of pixels."""


# torchvision.transforms takes as long to import as torch itself, and most runs have no looks.
def _rotated(images: torch.Tensor, degrees: float, _: float) -> torch.Tensor:
    if degrees % 90 == 0:  # without a trace of interpolation
        return torch.rot90(images, round(degrees / 90), (-2, -1)).contiguous()
    from torchvision.transforms.v2 import functional as tv

    # The corners that come in are black, as the background of digits and garments is.
    turned: torch.Tensor = tv.rotate(images, degrees, tv.InterpolationMode.BILINEAR)
    return turned


def _blurred(images: torch.Tensor, sigma: float, scale: float) -> torch.Tensor:
    from torchvision.transforms.v2 import functional as tv

    reach = max(1, min(math.ceil(2 * sigma * scale), min(images.shape[-2:]) // 2 - 1))
    side = 2 * reach + 1
    soft: torch.Tensor = tv.gaussian_blur(images, [side, side], [sigma * scale, sigma * scale])
    return soft


def _noisy(images: torch.Tensor, deviation: float, _: float) -> torch.Tensor:
    found = torch.empty_like(images)
    for place, image in enumerate(images):
        # By what the image shows, so that neither order nor process changes its noise.
        seed = zlib.crc32(image.contiguous().numpy().tobytes())
        noise = torch.randn(image.shape, generator=torch_generator(seed, "look"))
        found[place] = (image + deviation * noise).round().clamp(0, 255).to(torch.uint8)
    return found


def _dimmed(images: torch.Tensor, factor: float, _: float) -> torch.Tensor:
    return images.float().mul(factor).round().to(torch.uint8)


def _tinted(images: torch.Tensor, share: float, _: float) -> torch.Tensor:
    warm = torch.tensor([1.0, 1.0 - share / 2, 1.0 - share])[:, None, None]
    return images.float().mul(warm).round().to(torch.uint8)


def _inverted(images: torch.Tensor, _: float, __: float) -> torch.Tensor:
    return 255 - images


def _sheared(images: torch.Tensor, _: float, __: float) -> torch.Tensor:
    from torchvision.transforms.v2 import functional as tv

    leaning: torch.Tensor = tv.affine(
        images, 0.0, [0, 0], 1.0, [_SHEAR, 0.0], tv.InterpolationMode.BILINEAR
    )
    return leaning


def _shrunk(images: torch.Tensor, _: float, __: float) -> torch.Tensor:
    from torchvision.transforms.v2 import functional as tv

    height, width = images.shape[-2:]
    small = [round(_SHRINK * height), round(_SHRINK * width)]
    top, left = (height - small[0]) // 2, (width - small[1]) // 2
    around = (left, width - small[1] - left, top, height - small[0] - top)
    return functional.pad(tv.resize(images, small, antialias=True), around)


def _mirrored(images: torch.Tensor, _: float, __: float) -> torch.Tensor:
    from torchvision.transforms.v2 import functional as tv

    other: torch.Tensor = tv.horizontal_flip(images)
    return other


def _outlined(images: torch.Tensor, _: float, __: float) -> torch.Tensor:
    here = images[..., :-1, :-1].float()
    down, right = images[..., 1:, :-1] - here, images[..., :-1, 1:] - here
    edges = torch.hypot(down, right).clamp(max=255).to(torch.uint8)
    # The last row and column have no neighbours.
    return functional.pad(edges, (0, 1, 0, 1))


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "rotated": _rotated,
        "blurred": _blurred,
        "noisy": _noisy,
        "dimmed": _dimmed,
        "tinted": _tinted,
        "inverted": _inverted,
        "sheared": _sheared,
        "shrunk": _shrunk,
        "mirrored": _mirrored,
        "outlined": _outlined,
    }
)
"""What the steps of ``regl_app/config/looks.py`` do; 'plain' is none."""


@dataclass(frozen=True)
class Look:
    """Steps one after the other, each a name with its amount; none is 'plain'."""

    steps: Steps

    @classmethod
    def parse(cls, text: str, key: str = "partition.looks") -> Look:
        """Return the look ``name:amount+name``, such as ``inverted+rotated:90``.

        Raises:
            ConfigError: a name is unknown, or an amount is none for it; says so of ``key``.
        """
        try:
            return cls(parse_look(text, key))
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @property
    def changes(self) -> bool:
        """Whether it is more than 'plain'."""
        return any(name != PLAIN for name, _ in self.steps)

    def check_channels(self, channels: int, key: str = "partition.looks") -> None:
        """Raise where images of so many channels cannot be seen in this look.

        Raises:
            ConfigError: it is for colour pictures alone; says so of ``key``.
        """
        if channels == 1 and any(name == "tinted" for name, _ in self.steps):
            raise ConfigError(
                f"{key}: 'tinted' is for colour pictures, and these have one channel (use "
                "'dimmed' or 'inverted')"
            )

    def of(self, images: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """Return uint8 images ``(N, C, H, W)`` in this look; the same each time.

        'rotated' by 20 degrees to the left, 'blurred' by a Gaussian of sigma 1 pixel, 'noisy' by
        Gaussian noise of deviation 25 of 255, 'dimmed' to 0.5 of the light, 'tinted' to warm by
        0.5, unless an amount is named; 'inverted' is 255 - x, 'sheared' along x by 20 degrees,
        'shrunk' to 75 % amid black, 'mirrored' left to right, 'outlined' the magnitude of the
        gradient.

        Args:
            images: the pictures.
            scale: how many pixels they have for one of what classifiers see, for blur.

        Raises:
            ConfigError: it is for colour pictures, and these are gray.
        """
        self.check_channels(images.shape[1])
        for name, amount in self.steps:
            if name != PLAIN and len(images):
                images = STEPS[name](images, amount, scale)
        return images


def parse_looks(text: str) -> tuple[Look, ...]:
    """Return the looks of ``partition.looks``, separated by commas; none for an empty text.

    Raises:
        ConfigError: one of them is no look.
    """
    try:
        return tuple(map(Look, parsed(text)))
    except ValueError as error:
        raise ConfigError(str(error)) from error
