"""Pictures that need not be in memory: in a tensor, in a mapped file, or several of these in turn.

Whoever goes through many asks for a portion at a time; a tensor of them all would be a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from regl_app.core.types import Indices

Chosen = slice | torch.Tensor
"""A slice with step 1, or places ``(M,)`` int64 from 0."""


class Pictures(Protocol):
    """N pictures uint8 ``(C, H, W)`` of which some are a tensor, as of a tensor of them all."""

    def __len__(self) -> int:
        """Return N."""

    @property
    def shape(self) -> Sequence[int]:
        """Return ``(N, C, H, W)``."""

    def __getitem__(self, chosen: Chosen, /) -> torch.Tensor:
        """Return the chosen pictures, ``(M, C, H, W)``."""


@runtime_checkable
class Divisible(Pictures, Protocol):
    """Pictures of which some can be had without being read."""

    def part(self, chosen: Chosen) -> Pictures:
        """Return the chosen pictures."""


@dataclass(frozen=True, eq=False)
class StoredPictures:
    """Some of the pictures of a file: what is asked for is read, and nothing else."""

    pixels: npt.NDArray[np.uint8]
    places: Indices

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return ``(N, C, H, W)``."""
        return len(self.places), *self.pixels.shape[1:]

    def __getitem__(self, chosen: Chosen, /) -> torch.Tensor:
        return torch.from_numpy(self.pixels[self._places(chosen)])

    def part(self, chosen: Chosen) -> StoredPictures:
        """Return the chosen pictures, none of which is read."""
        return StoredPictures(self.pixels, self._places(chosen))

    def _places(self, chosen: Chosen) -> Indices:
        return self.places[chosen if isinstance(chosen, slice) else chosen.cpu().numpy()]


@dataclass(frozen=True, eq=False)
class JoinedPictures:
    """The pictures of ``parts``, at least one of equal shapes, one part after the other."""

    parts: tuple[Pictures, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return ``(N, C, H, W)``."""
        return len(self), *self.parts[0].shape[1:]

    def __getitem__(self, chosen: Chosen, /) -> torch.Tensor:
        places = _of_slice(chosen, len(self)) if isinstance(chosen, slice) else chosen.cpu()
        found = torch.empty((len(places), *self.shape[1:]), dtype=torch.uint8)
        first = 0
        for each in self.parts:
            here = (places >= first) & (places < first + len(each))
            found[here] = each[places[here] - first]
            first += len(each)
        return found

    def part(self, chosen: Chosen) -> Pictures:
        """Return the chosen pictures; of a file's, as long as they are in order, none is read."""
        places = _of_slice(chosen, len(self)) if isinstance(chosen, slice) else chosen.cpu()
        if len(places) == 0 or (places.diff() <= 0).any():
            return self[chosen]
        shares = []
        first = 0
        for each in self.parts:
            here = places[(places >= first) & (places < first + len(each))] - first
            if len(here):
                shares.append(part(each, here))
            first += len(each)
        return join(shares)


def part(pictures: Pictures, chosen: Chosen) -> Pictures:
    """Return the chosen pictures; those of a file stay there."""
    return pictures.part(chosen) if isinstance(pictures, Divisible) else pictures[chosen]


def join(parts: Sequence[Pictures]) -> Pictures:
    """Return all pictures of ``parts`` (at least one, equal shapes) in order."""
    tensors = [each for each in parts if isinstance(each, torch.Tensor)]
    if len(tensors) == len(parts):
        return torch.cat(tensors)
    filled = tuple(each for each in parts if len(each)) or tuple(parts[:1])
    return filled[0] if len(filled) == 1 else JoinedPictures(filled)


def portions(pictures: Pictures, most: int) -> Iterator[torch.Tensor]:
    """Yield the pictures in order, at most ``most`` at once; one portion of none if there are none.

    As ``torch.split`` of a tensor of them all.
    """
    for first in range(0, max(len(pictures), 1), most):
        yield pictures[first : first + most]


def _of_slice(chosen: slice, count: int) -> torch.Tensor:
    return torch.arange(*chosen.indices(count))
