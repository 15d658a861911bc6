"""Decoded squares written to a file one by one, with how they came to be, and read from there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import torch

from regl_app.core.errors import StorageError
from regl_app.core.files import write_json
from regl_app.data.depth import Depth, Scale
from regl_app.data.pictures import StoredPictures
from regl_app.data.squares import Reading

PIXELS = "pixels.npy"
_FACTS, _SIDES, _KEPT = "facts.json", "sides.npy", "kept.npy"
_PORTION = 256
_CHECKED_WHOLE, _BLOCKS, _BLOCK = 2**28, 256, 2**16

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class StoredSquares:
    """Squares in a mapped file, and how they came to be."""

    images: StoredPictures
    reading: Reading


class SquaresOnDisk:
    """Takes decoded pictures, ``Squares``, into an npy file; the disk's memory is all they take.

    Args:
        path: the file, which must not be there.
        size: side of the squares.
        channels: that they are to have; None: 1 as long as all have one, else 3.
        most: bytes that they may take.
    """

    def __init__(self, path: Path, size: int, channels: int | None, most: int) -> None:
        self.size = size
        self._path, self._most = path, most
        self._wanted, self._channels = channels, channels or 1
        self._count = 0
        self._stream: IO[bytes] = _new(path)
        self._start = write_header(self._stream, (0, self._channels, size, size))

    def __len__(self) -> int:
        return self._count

    def add(self, square: torch.Tensor) -> None:
        """Take the next one.

        Raises:
            StorageError: they take more than they may.
            OSError: the disk is full.
        """
        if self._wanted is None and square.shape[0] > self._channels:
            self._widen(square.shape[0])
        if (self._count + 1) * self._bytes > self._most:
            raise StorageError(
                f"{self._path.parent.parent}: pictures of {self.size} pixels take more than the "
                f"{self._most / 1e9:.1f} GB that cache-limit allows (raise it)"
            )
        self._stream.write(self._content(square))
        self._count += 1

    def replace(self, place: int, square: torch.Tensor) -> None:
        """Take another instead of the one at ``place``."""
        self._stream.seek(self._start + place * self._bytes)
        self._stream.write(self._content(square))
        self._stream.seek(0, 2)

    def close(self) -> None:
        """Finish the file."""
        if not self._stream.closed:
            with self._stream as stream:
                stream.seek(0)
                shape = (self._count, self._channels, self.size, self.size)
                if write_header(stream, shape) != self._start:
                    raise StorageError(f"{self._path}: numpy gives headers of several lengths")

    @property
    def _bytes(self) -> int:
        return self._channels * self.size**2

    def _content(self, square: torch.Tensor) -> memoryview:
        whole = square.expand(self._channels, self.size, self.size).contiguous()
        return whole.numpy().data

    def _widen(self, channels: int) -> None:
        """Give those that are there ``channels`` channels: the first picture of colour has come."""
        gray, self._channels = self._stream, channels
        narrow, left = self.size**2, self._count
        gray.seek(self._start)
        wide = self._path.with_name(f"wide-{self._path.name}")
        self._stream = _new(wide)
        with gray:
            write_header(self._stream, (0, channels, self.size, self.size))
            while left:
                some = min(left, _PORTION)
                held = np.frombuffer(gray.read(some * narrow), np.uint8)
                self._stream.write(held.reshape(some, 1, narrow).repeat(channels, axis=1).data)
                left -= some
        wide.replace(self._path)


def _new(path: Path) -> IO[bytes]:
    path.touch(mode=0o600)
    return path.open("w+b")


def write_header(stream: IO[bytes], shape: tuple[int, ...]) -> int:
    """Write the header of an npy file of uint8 and return its length, which no N changes."""
    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False, "shape": shape}
    began = stream.tell()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.tell() - began


def write_facts(folder: Path, reading: Reading) -> None:
    """Write how the squares in ``folder`` came to be, and what tells whether they are whole."""
    np.save(folder / _SIDES, reading.sides, allow_pickle=False)
    np.save(folder / _KEPT, reading.kept, allow_pickle=False)
    pixels = cast(Pixels, np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False))
    facts = {
        "check": check_of(pixels),
        "problems": reading.problems,
        "depth": None if reading.depth is None else asdict(reading.depth),
        "deep": reading.deep,
        "dark": reading.dark,
        "floats": reading.floats,
    }
    write_json(folder / _FACTS, facts)


def read_squares(folder: Path) -> StoredSquares | None:
    """Return what lies in ``folder``, the pixels mapped into memory; None if absent or damaged."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        pixels = np.load(folder / PIXELS, mmap_mode="r", allow_pickle=False)
        sides, kept = (np.load(folder / name, allow_pickle=False) for name in (_SIDES, _KEPT))
        fits = pixels.dtype == np.uint8 and pixels.ndim == 4 and check_of(pixels) == facts["check"]
        if not fits or not len(pixels) == len(sides) == len(kept):
            return None
        depth = facts["depth"] and Depth(*(Scale(**facts["depth"][n]) for n in ("whole", "real")))
        # Earlier versions did not count them: where there may be any, the set is decoded anew.
        floats = facts["floats"] if facts["deep"] else 0
        told = tuple(facts["problems"]), depth, facts["deep"], tuple(facts["dark"]), floats
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return None
    places = np.arange(len(pixels), dtype=np.int64)
    return StoredSquares(StoredPictures(pixels, places), Reading(sides, kept, *told))


def check_of(pixels: Pixels) -> str:
    """Return a checksum of the bytes: of all up to 256 MB, else of 256 places evenly spread."""
    whole = pixels.reshape(-1)
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    if whole.size <= _CHECKED_WHOLE:
        digest.update(whole.data)
    else:
        for start in np.linspace(0, whole.size - _BLOCK, _BLOCKS).astype(np.int64):
            digest.update(whole[start : start + _BLOCK].data)
    return digest.hexdigest()
