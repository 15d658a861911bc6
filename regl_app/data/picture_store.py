"""Pictures decoded once a machine, and read from the disk by index: no process holds them all."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from regl_app.core.activity import Span
from regl_app.core.disk_cache import GIGABYTE, evict, touch
from regl_app.core.errors import StorageError
from regl_app.core.files import atomic_path, exclusive
from regl_app.core.log import logger
from regl_app.core.types import Indices
from regl_app.data.decode import DECODING, decode_images
from regl_app.data.originals import Originals

_PORTION = 32
_IN_USE_SECONDS = 3600.0

Pixels = npt.NDArray[np.uint8]


class Pictures(Protocol):
    """N pictures uint8 ``(C, H, W)`` of which a slice is a tensor, as of a tensor of them all."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, chosen: slice, /) -> torch.Tensor:
        """Return the pictures of a slice, ``(M, C, H, W)``."""


@dataclass(frozen=True)
class StoredPictures:
    """Some of the pictures of a file: what a slice asks for is read, and nothing else."""

    pixels: Pixels
    places: Indices

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: slice, /) -> torch.Tensor:
        return torch.from_numpy(self.pixels[self.places[chosen]])


@dataclass(frozen=True)
class UnstoredPictures:
    """Pictures that are decoded whenever a slice asks for them, as there is no room for them."""

    originals: Originals
    size: int

    def __len__(self) -> int:
        return len(self.originals.places)

    def __getitem__(self, chosen: slice, /) -> torch.Tensor:
        return _decoded(self.originals, self.originals.places[chosen], self.size)


@dataclass(frozen=True)
class PictureStore:
    """A folder with an npy file for each set of pictures, size and rule, ``(N, C, H, W)`` uint8.

    All processes of a machine share it: who needs a file first writes it, the others wait for it.
    The files take at most ``max_bytes``; the least recently used go first, but an hour after their
    last use at the earliest. Only their owner may read them, as they show what the originals show.
    """

    root: Path
    max_bytes: int = 2 * GIGABYTE

    def pictures(self, originals: Originals, size: int) -> Pictures:
        """Return the pictures as squares of ``size``, decoded now if no process has done it.

        Where they would take more than ``max_bytes`` or the disk has no room, they are not stored,
        with a warning: they are decoded as needed.

        Raises:
            DataError: an original cannot be read, or is no longer what it was.
        """
        path = self.root / f"{_name(originals, size)}.npy"
        shape = (len(originals.files), originals.channels, size, size)
        pixels = _load(path, shape)
        if pixels is None:
            with exclusive(path):
                pixels = _load(path, shape)  # by now another process may have written it
                if pixels is None:
                    try:
                        self._check_room(shape)
                        _write(path, originals, shape)
                    except StorageError as error:
                        logger.warning("pictures are decoded each time: %s", error)
                        return UnstoredPictures(originals, size)
                    pixels = _load(path, shape)
                    evict(self.root, "*.npy", self.max_bytes, keep=path, spare=_IN_USE_SECONDS)
        if pixels is None:
            return UnstoredPictures(originals, size)
        touch(path)
        return StoredPictures(pixels, originals.places)

    def _check_room(self, shape: tuple[int, ...]) -> None:
        needed, allowed = math.prod(shape), self.max_bytes
        if needed > allowed:
            raise StorageError(
                f"{self.root}: {shape[0]} pictures of {shape[-1]} pixels take "
                f"{needed / GIGABYTE:.1f} GB, "
                f"cache-limit allows {allowed / GIGABYTE:.1f} (raise it)"
            )


def _name(originals: Originals, size: int) -> str:
    how = f"{DECODING}/{size}/{originals.how}"
    told = f"{how}\n" + "\n".join(originals.files.states)
    if originals.looked is not None:
        told += f"\n{originals.looked.words}"
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _load(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    """Return the pictures at ``path``, mapped into memory; None if they are absent or damaged."""
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return cast(Pixels, pixels) if pixels.dtype == np.uint8 and pixels.shape == shape else None


def _write(path: Path, originals: Originals, shape: tuple[int, int, int, int]) -> None:
    count, size = shape[0], shape[-1]
    began = Span()
    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)
        with temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for start in range(0, count, _PORTION):
                places = np.arange(start, min(start + _PORTION, count), dtype=np.int64)
                stream.write(_decoded(originals, places, size).numpy().data)
    logger.info(
        "%d pictures decoded to %d pixels in %.1f s, once for all on this machine",
        count,
        size,
        began.seconds,
    )


def _decoded(originals: Originals, places: Indices, size: int) -> torch.Tensor:
    files = originals.files.subset(places)
    how = (originals.channels, originals.rule)
    depth = () if originals.depth is None else (originals.depth,)
    images = decode_images(files, size, *how, *depth).images
    return images if originals.looked is None else originals.looked.subset(places).of(images)
