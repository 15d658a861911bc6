"""Bringing images of any size and shape to a square."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # the community's name for it

from regl_app.config.sections import FitRule
from regl_app.data.pictures import Chosen, Pictures

_CHUNK = 2**25  # values, before or after


def to_square(images: torch.Tensor, size: int, rule: FitRule = "crop") -> torch.Tensor:
    """Return ``(N, C, H, W)`` images in [0, 255] as uint8 ``(N, C, size, size)``.

    Resized bilinearly with antialiasing; ``rule`` says how what is no square becomes one. 'crop'
    cuts out the largest centred square, 'pad' adds black (0) evenly on both sides of the shorter
    axis, 'stretch' gives up the proportions.
    """
    height, width = images.shape[-2:]
    if rule == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        images = images[..., top : top + side, left : left + side]
    if rule != "pad" or height == width:
        return _to_size(images, size, size)
    # Black comes last: a long strip of few pixels would make a huge square.
    scale = size / max(height, width)
    inner = [max(1, round(length * scale)) for length in (height, width)]
    missing = [size - length for length in inner]
    low = [each // 2 for each in missing]
    edges = (low[1], missing[1] - low[1], low[0], missing[0] - low[0])
    return F.pad(_to_size(images, *inner), edges)


def own_side(height: int, width: int, rule: FitRule) -> int:
    """Return the side of the largest square that ``to_square`` makes without enlarging."""
    return max(height, width) if rule == "pad" else min(height, width)


def _to_size(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if images.shape[-2:] == (height, width) and images.dtype == torch.uint8:
        return images.contiguous()
    # In chunks: float copies of a large set would take several times its memory.
    each = images.shape[1] * max(height * width, images.shape[2] * images.shape[3])
    most = images.shape[1] if each <= _CHUNK else 1
    parts = [
        torch.cat(
            [_rounded(colours, height, width) for colours in torch.split(part, most, dim=1)], 1
        )
        for part in torch.split(images, max(1, _CHUNK // each))
    ]
    return torch.cat(parts)


def _rounded(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return _resized(images.float(), height, width).round_().clamp_(0, 255).to(torch.uint8)


_LUMA = (0.299, 0.587, 0.114)


def fit(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return uint8 images resized (bilinear, antialiased) and recoloured to ``shape`` (C, H, W).

    Colour becomes grey by luma (ITU-R 601); grey becomes colour by repetition.
    """
    if images.shape[1:] == tuple(shape):
        return images
    if len(images) == 0:
        return torch.empty((0, *shape), dtype=torch.uint8)
    each = max(images[0].numel(), math.prod(shape))
    parts = [
        fit_floats(part.float(), shape).round().clamp(0, 255).to(torch.uint8)
        for part in torch.split(images, max(1, _CHUNK // each))
    ]
    return torch.cat(parts).contiguous()


@dataclass(frozen=True, eq=False)
class Fitted:
    """Pictures as ``fit`` has them in the ``form`` (C, H, W), made when they are asked for."""

    pictures: Pictures
    form: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return ``(N, C, H, W)``."""
        return len(self), *self.form

    def __getitem__(self, chosen: Chosen, /) -> torch.Tensor:
        return fit(self.pictures[chosen], self.form)


def fit_floats(images: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return float images of any range as ``fit`` does, without rounding: differentiable."""
    channels, height, width = shape
    if images.shape[1] == 3 and channels == 1:
        luma = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
        images = (images * luma).sum(1, keepdim=True)
    if images.shape[2:] != (height, width):
        images = _resized(images, height, width)
    return images.expand(-1, channels, -1, -1)


def _resized(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(
        images, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
