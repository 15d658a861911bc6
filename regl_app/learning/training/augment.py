"""How training images are varied: a shift of our own, the rest by torchvision's transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from regl_app.core.global_random import drawing_from
from regl_app.core.seeding import derive_seed, torch_generator

Augment = Callable[[torch.Tensor, int], torch.Tensor]
"""(uint8 images ``(N, C, H, W)``, number of the step) -> as many, varied."""

_DEGREES, _LEAST_AREA = 15, 0.5
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 0.3, 0.3, 0.3, 0.05


def make_augment(names: Sequence[str], side: int, seed: int) -> Augment:
    """Return what varies images of ``side`` pixels as ``names`` say, in their order.

    Each image is varied by itself. A step's draws depend on ``seed`` and its number alone, but for
    'shift', whose stream runs through all steps.
    """
    shifts = torch_generator(seed, "augment")
    most = max(1, side // 8)
    parts: list[Augment] = []
    for place, name in enumerate(names):
        if name == "shift":
            parts.append(lambda images, step: random_shift(images, most, shifts))
        else:
            parts.append(_by_torchvision(name, side, derive_seed(seed, "augment", name, place)))

    def augment(images: torch.Tensor, step: int) -> torch.Tensor:
        for part in parts:
            images = part(images, step)
        return images

    return augment


def random_shift(images: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Return ``(N, C, H, W)`` images, each moved by up to ``most`` pixels along both axes.

    The border is repeated into the gap, so any background stays what it is. ``generator`` lives
    on the CPU.
    """
    count, channels, height, width = images.shape
    shifts = torch.randint(-most, most + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) + shifts[0]).clamp(0, height - 1).to(images.device)  # (N, H)
    columns = (torch.arange(width) + shifts[1]).clamp(0, width - 1).to(images.device)  # (N, W)
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _by_torchvision(name: str, side: int, seed: int) -> Augment:
    transform = _transform(name, side)

    def augment(images: torch.Tensor, step: int) -> torch.Tensor:
        # Of a batch it would vary all images alike.
        with drawing_from(derive_seed(seed, step)):
            return torch.stack([transform(image) for image in images])

    return augment


def _transform(name: str, side: int) -> Any:
    from torchvision.transforms import InterpolationMode, v2

    match name:
        case "flip":
            return v2.RandomHorizontalFlip()
        case "vertical-flip":
            return v2.RandomVerticalFlip()
        case "crop":
            return v2.RandomResizedCrop(side, scale=(_LEAST_AREA, 1.0), antialias=True)
        case "rotate":
            return v2.RandomRotation(_DEGREES, InterpolationMode.BILINEAR)
        case "colour":
            return v2.ColorJitter(_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE)
    raise AssertionError(f"no augmentation is called {name!r}")  # the configuration knows them
