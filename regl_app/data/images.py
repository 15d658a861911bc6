"""Labelled images: the one form in which data moves through the system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from regl_app.core.errors import DataError
from regl_app.core.types import Counts
from regl_app.data.originals import Originals
from regl_app.data.pictures import Pictures, join, part, portions
from regl_app.data.row_facts import RowFacts

_AT_ONCE = 256


@dataclass(frozen=True)
class ImageSet:
    """Images ``(N, C, H, W)`` uint8 and labels ``(N,)`` int64; N may be 0, C is 1 or 3.

    ``pixels`` are a tensor, or lie in a mapped file that all processes of a machine share: a part
    of the set is a part of the file, and nothing is copied until somebody asks for pixels.
    ``originals`` are the N pictures that they were made from, if these are files of larger ones;
    ``facts`` say which rows of the data set they are.
    """

    pixels: Pictures
    labels: torch.Tensor
    originals: Originals | None = None
    facts: RowFacts | None = None

    def __post_init__(self) -> None:
        kind = self.pixels.dtype if isinstance(self.pixels, torch.Tensor) else torch.uint8
        if len(self.pixels.shape) != 4 or kind != torch.uint8:
            raise DataError(
                f"images must be uint8 of shape (N, C, H, W), got {kind} {tuple(self.pixels.shape)}"
            )
        if self.labels.shape != (len(self.pixels),) or self.labels.dtype != torch.int64:
            raise DataError(
                f"labels must be int64 of shape ({len(self.pixels)},), got "
                f"{self.labels.dtype} {tuple(self.labels.shape)}"
            )
        if self.originals is not None and len(self.originals.places) != len(self.labels):
            raise DataError(
                f"originals must be {len(self.labels)} pictures, got {len(self.originals.places)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> torch.Tensor:
        """Return all images ``(N, C, H, W)`` as a tensor: a copy of what lies in a file.

        What goes through a large set takes ``pixels`` instead, in portions.
        """
        return self.pixels if isinstance(self.pixels, torch.Tensor) else self.pixels[:]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return ``(C, H, W)`` of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def subset(self, indices: Sequence[int] | npt.NDArray[np.int64] | torch.Tensor) -> Self:
        """Return the images at ``indices``, in that order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        originals = None if self.originals is None else self.originals.subset(chosen.numpy())
        facts = None if self.facts is None else self.facts.subset(chosen.numpy())
        return type(self)(part(self.pixels, chosen), self.labels[chosen], originals, facts)

    def first(self, count: int) -> ImageSet:
        """Return the first ``count`` images, and nothing else."""
        return ImageSet(part(self.pixels, slice(count)), self.labels[:count])

    def rest(self, count: int) -> ImageSet:
        """Return the images after the first ``count``, and nothing else."""
        return ImageSet(part(self.pixels, slice(count, None)), self.labels[count:])

    def alone(self) -> Self:
        """Return the set with originals that are decoded without those of a set it was part of."""
        return self if self.originals is None else replace(self, originals=self.originals.alone())

    def with_channels(self, channels: int) -> Self:
        """Return the set with ``channels`` channels: a gray image is repeated."""
        if self.shape[0] == channels:
            return self
        return replace(self, pixels=self.images.expand(-1, channels, -1, -1).contiguous())

    def counts(self, num_classes: int) -> Counts:
        """Return the number of images per class, ``(num_classes,)`` int64."""
        return np.bincount(self.labels.numpy(), minlength=num_classes).astype(np.int64)

    @classmethod
    def empty(cls, shape: tuple[int, int, int]) -> Self:
        """Return a set of no images of ``shape`` (C, H, W)."""
        return cls(torch.empty((0, *shape), dtype=torch.uint8), torch.empty(0, dtype=torch.int64))

    @classmethod
    def concat(cls, sets: Sequence[ImageSet]) -> Self:
        """Return all images of ``sets`` (one or more, equal shapes) in order, and nothing else."""
        labels = torch.cat([each.labels for each in sets])
        return cls(join([each.pixels for each in sets]), labels)


def distinct(images: ImageSet) -> ImageSet:
    """Return each image once, in the order of first occurrence; its label is that one's."""
    seen: dict[bytes, int] = {}
    every = (image for each in portions(images.pixels, _AT_ONCE) for image in each)
    for place, image in enumerate(every):
        seen.setdefault(image.contiguous().numpy().tobytes(), place)
    return images.subset(list(seen.values()))


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images as float32 in [-1, 1], the classifiers' and generators' range."""
    return images.float().div(127.5).sub(1.0)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Return float images in [-1, 1] as uint8, rounded; values outside are clipped."""
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)
