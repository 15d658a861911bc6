"""Pictures decoded once a machine, and read from the disk by index: no process holds them all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch

from regl_app.config import RunConfig
from regl_app.config.paths import cache_dir
from regl_app.config.sections import DataConfig
from regl_app.core.activity import Span
from regl_app.core.digests import tensor_bytes
from regl_app.core.disk_cache import GIGABYTE, evict, touch
from regl_app.core.errors import StorageError
from regl_app.core.files import atomic_path, exclusive, remove_leftovers
from regl_app.core.log import logger
from regl_app.core.types import Indices
from regl_app.data.decode import DECODING, can_any_be_read, decode, decode_images
from regl_app.data.looked import LookedPictures
from regl_app.data.originals import Originals, PictureFiles
from regl_app.data.pictures import Chosen, Pictures, StoredPictures
from regl_app.data.read_alike import used_depth
from regl_app.data.resize import to_square
from regl_app.data.squares import Reading
from regl_app.data.stored_squares import (
    PIXELS,
    SquaresOnDisk,
    StoredSquares,
    read_squares,
    write_facts,
    write_header,
)

_PORTION = 32
_IN_USE_SECONDS = 3600.0
_ENTRIES = "*.*"
_LARGE = 10**8
"""Bytes from which images that are read as they are go into a file."""

Pixels = npt.NDArray[np.uint8]
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class UnstoredPictures:
    """Plain pictures that are decoded whenever a slice asks for them: there is no room for them."""

    originals: Originals
    size: int

    def __len__(self) -> int:
        return len(self.originals.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return ``(N, C, H, W)``."""
        return len(self), self.originals.channels, self.size, self.size

    def __getitem__(self, chosen: Chosen, /) -> torch.Tensor:
        places = chosen if isinstance(chosen, slice) else chosen.cpu().numpy()
        return _decoded(self.originals, self.originals.places[places], self.size)


@dataclass(frozen=True)
class PictureStore:
    """A folder of decoded pictures, uint8 ``(N, C, H, W)``, which all processes map into memory.

    ``NAME.set`` is a data set as classifiers see it, ``NAME.npy`` pictures at a generator's size.
    Who needs one first writes it, the others wait for it. They take at most ``max_bytes``; the
    least recently used go first, but an hour after their last use at the earliest. Only their owner
    may read them, as they show what the pictures show.
    """

    root: Path
    max_bytes: int = 2 * GIGABYTE

    @classmethod
    def of(cls, config: RunConfig, folder: Path | None = None) -> PictureStore:
        """Return that of a run's caches, or of those in ``folder``."""
        return cls((folder or cache_dir(config)) / "pictures", int(config.cache_limit * GIGABYTE))

    def squares(
        self, files: PictureFiles, config: DataConfig, channels: int | None = None
    ) -> StoredSquares | None:
        """Return ``files`` as ``decode`` has them, decoded now if no process has done it.

        What could not be read then is tried again: it may have been for want of a right or of a
        decoder, which no state tells. None, with a warning, where they cannot be stored.

        Raises:
            DataError: a picture cannot be read, or is no longer what it was.
        """
        size, rules = config.image_size, (config.fit, config.depth, config.unreadable)
        used = used_depth(config)
        how = "/".join(rules) + (f"/{used.text}" if used else "")
        name = _name(f"set/{size}/{channels}/{how}", files.states)
        shape = (len(files), channels or 1, size, size)

        def still_unread(found: StoredSquares) -> bool:
            left = np.setdiff1d(np.arange(len(files)), found.reading.kept)
            portions = (left[first : first + _PORTION] for first in range(0, len(left), _PORTION))
            return not any(can_any_be_read(files.subset(each), size) for each in portions)

        return self._set(
            name,
            shape,
            channels,
            lambda taken: decode(files, taken, channels, *rules, used),
            still_unread,
        )

    def resized(self, images: torch.Tensor, size: int) -> Pictures:
        """Return ``(N, C, H, W)`` uint8 images as ``to_square`` does, in a file if they are many.

        A file is known by the images' content. Without room for it they are a tensor.
        """
        shape = (len(images), images.shape[1], size, size)
        if math.prod(shape) < _LARGE:
            return to_square(images, size)

        def fill(taken: SquaresOnDisk) -> Reading:
            for portion in torch.split(images, _PORTION):
                for square in to_square(portion, size):
                    taken.add(square)
            places = np.arange(len(images), dtype=np.int64)
            return Reading(np.full_like(places, size), places)

        told = [str(tuple(images.shape)), *(_digest(part) for part in torch.split(images, 1024))]
        stored = self._set(_name(f"resized/{size}", told), shape, shape[1], fill)
        return to_square(images, size) if stored is None else stored.images

    def _set(
        self,
        name: str,
        least: tuple[int, ...],
        channels: int | None,
        fill: Callable[[SquaresOnDisk], Reading],
        holds: Callable[[StoredSquares], bool] = lambda _: True,
    ) -> StoredSquares | None:
        """Return the set ``name``, which ``fill`` fills if no process has done it.

        ``least`` is the least shape that it can have. One that no longer ``holds`` is made anew.
        None, with a warning, where there is no room.
        """
        path = self.root / f"{name}.set"

        def load() -> StoredSquares | None:
            found = read_squares(path)
            return found if found is not None and holds(found) else None

        def write() -> None:
            self._check_room(least)
            began = Span()
            with atomic_path(path) as temporary:
                temporary.mkdir(mode=0o700)
                taken = SquaresOnDisk(temporary / PIXELS, least[-1], channels, self.max_bytes)
                try:
                    reading = fill(taken)
                finally:
                    taken.close()
                write_facts(temporary, reading)
            _tell(len(taken), least[-1], began)

        try:
            return self._kept(path, load, write)
        except (StorageError, OSError) as error:
            logger.warning("each process holds its own copy of all pictures: %s", error)
            return None

    def pictures(self, originals: Originals, size: int) -> Pictures:
        """Return the pictures as squares of ``size``, decoded now if no process has done it.

        They are stored plain, once for all partitions; a client's look is given as they are read.
        Where they would take more than ``max_bytes`` or cannot be written, they are not stored,
        with a warning: they are decoded as needed.

        Raises:
            DataError: an original cannot be read, or is no longer what it was.
        """
        path = self.root / f"{_name(f'{size}/{originals.how}', originals.files.states)}.npy"
        shape = (len(originals.files), originals.channels, size, size)

        def write() -> None:
            self._check_room(shape)
            _write(path, originals, shape)

        try:
            pixels = self._kept(path, lambda: _load(path, shape), write)
        except (StorageError, OSError) as error:
            logger.warning("pictures are decoded each time: %s", error)
            pixels = None
        plain: Pictures = (
            UnstoredPictures(originals, size)
            if pixels is None
            else StoredPictures(pixels, originals.places)
        )
        looked = originals.looked
        return plain if looked is None else LookedPictures(plain, looked.subset(originals.places))

    def _kept(
        self, path: Path, load: Callable[[], _Found | None], write: Callable[[], None]
    ) -> _Found | None:
        """Return what ``load`` finds at ``path``, once some process has done ``write``."""
        found = load()
        if found is None:
            with exclusive(path) as alone:
                found = load()  # by now another process may have written it
                if found is None:
                    if alone:  # as large as what is to be written now
                        remove_leftovers(path)
                    write()
                    found = load()
                    evict(self.root, _ENTRIES, self.max_bytes, keep=path, spare=_IN_USE_SECONDS)
        touch(path)
        return found

    def _check_room(self, shape: tuple[int, ...]) -> None:
        needed, allowed = math.prod(shape), self.max_bytes
        if needed > allowed:
            raise StorageError(
                f"{self.root}: {shape[0]} pictures of {shape[-1]} pixels take "
                f"{needed / GIGABYTE:.1f} GB, "
                f"cache-limit allows {allowed / GIGABYTE:.1f} (raise it)"
            )


def as_squares(images: torch.Tensor, size: int, store: PictureStore | None) -> Pictures:
    """Return images as squares of ``size``, by ``PictureStore.resized`` if there is a store."""
    return to_square(images, size) if store is None else store.resized(images, size)


def _name(how: str, states: Iterable[str]) -> str:
    """Return what another picture, another treatment and another decoder change."""
    import PIL

    told = f"{DECODING}/{PIL.__version__}/{torch.__version__}/{how}\n" + "\n".join(states)
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _digest(images: torch.Tensor) -> str:
    return hashlib.sha256(tensor_bytes(images)).hexdigest()


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
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)
        with temporary.open("wb") as stream:
            write_header(stream, shape)
            for start in range(0, count, _PORTION):
                places = np.arange(start, min(start + _PORTION, count), dtype=np.int64)
                stream.write(_decoded(originals, places, size).numpy().data)
    _tell(count, size, began)


def _tell(count: int, size: int, began: Span) -> None:
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
    return decode_images(files, size, *how, *depth).images
