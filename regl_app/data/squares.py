"""Where decoded pictures go, one by one, and what is known of how they came to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from regl_app.core.types import Indices
from regl_app.data.depth import Depth, UsedDepth


class Squares(Protocol):
    """What takes decoded pictures in their order, uint8 ``(1 or 3, size, size)``."""

    @property
    def size(self) -> int:
        """Return the side that they have."""

    def __len__(self) -> int:
        """Return how many there are."""

    def add(self, square: torch.Tensor) -> None:
        """Take the next one."""

    def replace(self, place: int, square: torch.Tensor) -> None:
        """Take another instead of the one at ``place``, with as many channels."""


class SquaresInMemory:
    """Decoded pictures as a list of tensors."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._held: list[torch.Tensor] = []

    def __len__(self) -> int:
        return len(self._held)

    def add(self, square: torch.Tensor) -> None:
        """Take the next one."""
        self._held.append(square)

    def replace(self, place: int, square: torch.Tensor) -> None:
        """Take another instead of the one at ``place``."""
        self._held[place] = square

    def together(self, channels: int | None = None) -> torch.Tensor:
        """Return all ``(N, C, size, size)``; None: C is 1 if all have one channel, else 3."""
        size = self.size
        count = channels or max((square.shape[0] for square in self._held), default=1)
        if not self._held:
            return torch.empty((0, count, size, size), dtype=torch.uint8)
        return torch.stack([square.expand(count, size, size) for square in self._held])


@dataclass(frozen=True)
class Reading:
    """How N pictures came to be squares.

    ``sides`` ``(N,)`` are in pixels: a larger square than that is an enlargement. ``kept``
    ``(N,)`` are the places of the files that could be read, ``problems`` says what is wrong with
    each of the others. ``depth`` is the rule by which deep greyscale was read, None if there was
    none; ``dark`` names the deep pictures that use little of its range. ``deep`` of them are deep,
    ``floats`` of these floats.
    """

    sides: Indices
    kept: Indices
    problems: tuple[str, ...] = ()
    depth: Depth | None = None
    deep: int = 0
    dark: tuple[str, ...] = ()
    floats: int = 0

    @property
    def used_depth(self) -> UsedDepth | None:
        """Return the scales by which deep greyscale was read, None if there was none."""
        return UsedDepth.of(self.depth, self.deep, self.floats)
