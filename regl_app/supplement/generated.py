"""Images that were generated, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass

from regl_app.core.types import Counts, Indices
from regl_app.data.images import ImageSet


@dataclass(frozen=True)
class GeneratedImages:
    """Synthetic images in the classifier's shape, and what they cost.

    ``indices`` (N,) say where they are in the shared pool, None if they are not from it;
    ``sequence`` (C,) counts the images per class where they are the beginnings of the client's own
    sequences, None where they are not or where nobody else can make these again.
    """

    images: ImageSet
    generated: int
    reused: int
    seconds: float
    indices: Indices | None = None
    sequence: Counts | None = None
