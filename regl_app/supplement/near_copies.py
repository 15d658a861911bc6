"""Near-copies: synthetic images that lie closer to a training image than new real ones would.

A test of data copying by nearest neighbours (Meehan et al. 2020; "authenticity" of Alaa et al.
2022), made for few images: the threshold is a quantile of distances that are there to be counted.
On small thumbnails, not on a classifier's features: these leave out what makes a picture this one.
``benchmarks/image_quality.py`` has figures of what is found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch.nn import functional

from regl_app.data.pictures import Pictures, portions

CHANCE = 0.1
"""Share of new real images that would count as near-copies."""
LEAST_HELD_OUT = 19
"""Fewer distances have no such quantile: a new one is below two of 19 with probability 2/20."""
_SIDE = 8
_SAME = 1e-5
"""Pictures at this distance are one and the same, told twice."""
_AT_ONCE = 200


def thumbnails(images: Pictures) -> torch.Tensor:
    """Return uint8 ``(N, C, H, W)`` images as ``(N, P)`` float64 in [0, 1], 8 pixels a side."""
    side = min(_SIDE, images.shape[2]), min(_SIDE, images.shape[3])
    parts = [
        functional.adaptive_avg_pool2d(part.float() / 255, side).flatten(1).double()
        for part in portions(images, _AT_ONCE)
    ]
    return torch.cat(parts)


@dataclass(frozen=True)
class CopyTest:
    """Thumbnails ``train`` (N, P) of one class's training images, and how near is too near.

    What lies closer to one of them than ``limit`` is a near-copy of it.
    """

    train: torch.Tensor
    limit: float

    @classmethod
    def of(cls, train: torch.Tensor, held_out: torch.Tensor, most: int) -> Self | None:
        """Return the training images with the limit that real images set; None if too few do.

        These are the held-out ones, and each training image as if it were not among the others.
        The limit is the k-th smallest of their n distances to the nearest training image,
        k = 2 floor(CHANCE (n + 1) / 2): a new image of the same kind is below it with probability
        k / (n + 1). k is even since two training images that are each other's nearest tell the
        same distance twice: the closest of n + 1 images are two. Pictures that are there twice do
        not count as their own neighbours.

        Args:
            train: thumbnails ``(N, P)`` of training images.
            held_out: of real images of the class that are not trained on, ``(M, P)``.
            most: of how many of either kind the distance is measured.
        """
        if len(train) < 2:
            return None
        real = torch.cat([_spread_out(train, most), _spread_out(held_out, most)])
        distances = _nearest_other(real, train)
        place = 2 * math.floor(CHANCE * (len(distances) + 1) / 2 + 1e-9)
        if place < 1:
            return None
        limit = float(distances.kthvalue(place).values)
        return cls(train, limit) if math.isfinite(limit) else None


def near_copies(made: torch.Tensor, tests: Sequence[CopyTest]) -> torch.Tensor:
    """Return for thumbnails ``(M, P)`` whether each is a near-copy of any training image, ``(M,)``.

    An adapter that has learned a picture by heart may draw it under another class's prompt.
    """
    found = torch.zeros(len(made), dtype=torch.bool)
    for each in tests:
        found |= torch.cdist(made, each.train).amin(dim=1) < each.limit
    return found


def _nearest_other(real: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    """Return each one's distance to the nearest of ``train`` that is another picture."""
    distances = torch.cdist(real, train)
    return distances.masked_fill(distances < _SAME, math.inf).amin(dim=1)


def _spread_out(rows: torch.Tensor, most: int) -> torch.Tensor:
    """Return at most ``most`` of the rows, evenly spread."""
    return rows[:: max(1, math.ceil(len(rows) / most))]
