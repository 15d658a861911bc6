"""Pictures of a file in clients' looks: the file has them plain, a look is given as one is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from regl_app.core.types import Indices
from regl_app.data.looks import Look
from regl_app.data.pictures import Chosen, Pictures, part

_AT_ONCE = 64
"""Pictures that are in a look's floats at a time."""


@dataclass(frozen=True, eq=False)
class Looked:
    """Which of ``looks`` each picture of a set is seen in, ``of_file`` ``(N,)``; -1: as it is.

    ``side`` is that of the images which classifiers see, in pixels: blur is meant at that size.
    """

    looks: tuple[Look, ...]
    of_file: Indices
    side: int

    def subset(self, chosen: Indices | slice) -> Self:
        """Return the looks of the pictures at ``chosen`` ``(M,)``."""
        return replace(self, of_file=self.of_file[chosen])

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """Return the decoded pictures ``(N, C, H, W)`` in their looks."""
        seen = images.clone()
        for place, look in enumerate(self.looks):
            mine = np.flatnonzero(self.of_file == place)
            if not look.changes:
                continue
            for some in np.split(mine, range(_AT_ONCE, len(mine), _AT_ONCE)):
                seen[some] = look.of(images[some], images.shape[-1] / self.side)
        return seen

    @property
    def words(self) -> str:
        """Return what changes when a picture's look does."""
        told = [str(self.looks[look].steps) if look >= 0 else "" for look in self.of_file]
        return f"{self.side}\n" + "\n".join(told)


@dataclass(frozen=True, eq=False)
class LookedPictures:
    """Pictures each of which is seen in its look, ``looked`` ``(N,)``, whenever it is read."""

    plain: Pictures
    looked: Looked

    def __len__(self) -> int:
        return len(self.plain)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return ``(N, C, H, W)``."""
        return tuple(self.plain.shape)

    def __getitem__(self, chosen: Chosen, /) -> torch.Tensor:
        return self.looked.subset(_places(chosen)).of(self.plain[chosen])

    def part(self, chosen: Chosen) -> LookedPictures:
        """Return the chosen pictures; those of a file stay there."""
        return LookedPictures(part(self.plain, chosen), self.looked.subset(_places(chosen)))


def _places(chosen: Chosen) -> Indices | slice:
    if isinstance(chosen, slice):
        return chosen
    places: Indices = chosen.cpu().numpy()
    return places
