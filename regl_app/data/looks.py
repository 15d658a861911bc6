"""Looks by name, one per client: the same things as other cameras, scanners or hands show them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torchvision.transforms.v2 import functional as tv

from regl_app.core.errors import ConfigError
from regl_app.core.seeding import torch_generator
from regl_app.data.disguise import DISGUISES, apply_disguise

PLAIN = "plain"


@dataclass(frozen=True)
class _Step:
    """A change of uint8 images ``(N, C, H, W)`` by an amount, at a scale of pixels."""

    apply: Callable[[torch.Tensor, float, float], torch.Tensor]
    usual: float
    lowest: float
    highest: float


def _rotated(images: torch.Tensor, degrees: float, _: float) -> torch.Tensor:
    if degrees % 90 == 0:  # without a trace of interpolation
        return torch.rot90(images, round(degrees / 90), (-2, -1)).contiguous()
    turned: torch.Tensor = tv.rotate(images, degrees, tv.InterpolationMode.BILINEAR)
    return turned


def _blurred(images: torch.Tensor, sigma: float, scale: float) -> torch.Tensor:
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
    if images.shape[1] == 1:
        raise ConfigError(
            "partition.looks: 'tinted' is for colour pictures, and these have one channel (use "
            "'dimmed' or 'inverted')"
        )
    warm = torch.tensor([1.0, 1.0 - share / 2, 1.0 - share])[:, None, None]
    return images.float().mul(warm).round().to(torch.uint8)


_STEPS: Mapping[str, _Step] = MappingProxyType(
    {
        "rotated": _Step(_rotated, 20.0, -360.0, 360.0),
        "blurred": _Step(_blurred, 1.0, 0.1, 16.0),
        "noisy": _Step(_noisy, 25.0, 0.0, 255.0),
        "dimmed": _Step(_dimmed, 0.5, 0.0, 1.0),
        "tinted": _Step(_tinted, 0.5, 0.0, 1.0),
    }
)
NAMES = (PLAIN, *_STEPS, *(name for name in DISGUISES if name not in _STEPS))


@dataclass(frozen=True)
class Look:
    """Steps one after the other, each a name with its amount; none is 'plain'."""

    steps: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> Look:
        """Return the look ``name:amount+name``, such as ``inverted+rotated:90``.

        Raises:
            ConfigError: a name is unknown, or an amount is none for it.
        """
        return cls(tuple(_step(part.strip(), text) for part in text.split("+")))

    def of(self, images: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """Return uint8 images ``(N, C, H, W)`` in this look; the same each time.

        'rotated' by 20 degrees to the left, 'blurred' by a Gaussian of sigma 1 pixel, 'noisy' by
        Gaussian noise of deviation 25 of 255, 'dimmed' to 0.5 of the light, 'tinted' to warm by
        0.5, unless an amount is named; the others as ``disguise`` has them.

        Args:
            images: the pictures.
            scale: how many pixels they have for one of what classifiers see, for blur.
        """
        for name, amount in self.steps:
            if name in _STEPS:
                images = _STEPS[name].apply(images, amount, scale) if len(images) else images
            elif name != PLAIN:
                images = apply_disguise(images, name)
        return images


def parse_looks(text: str) -> tuple[Look, ...]:
    """Return the looks of ``partition.looks``, separated by commas; none for an empty text.

    Raises:
        ConfigError: one of them is no look.
    """
    return tuple(map(Look.parse, text.split(","))) if text.strip() else ()


def look_names(text: str) -> tuple[str, ...]:
    """Return what the looks of ``partition.looks`` are called."""
    return tuple(part.strip() for part in text.split(",")) if text.strip() else ()


def _step(part: str, text: str) -> tuple[str, float]:
    name, colon, amount = part.partition(":")
    if name not in NAMES:
        raise ConfigError(
            f"partition.looks must be of {', '.join(NAMES)}, by '+' within a look and by ',' "
            f"between looks, got {part!r} in {text!r}"
        )
    step = _STEPS.get(name)
    if step is None:
        if colon:
            raise ConfigError(f"partition.looks: {name!r} takes no amount, got {part!r}")
        return name, 0.0
    if not colon:
        return name, step.usual
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if not step.lowest <= value <= step.highest:
        raise ConfigError(
            f"partition.looks: the amount of {name!r} must be a number from {step.lowest:g} to "
            f"{step.highest:g}, got {part!r} (try '{name}:{step.usual:g}')"
        )
    return name, value
