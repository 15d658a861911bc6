"""The idx files of the MNIST family, plain or gzipped, read in place from any folder."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from regl_app.core.errors import DataError

_UINT8 = 0x08
_MOST = 2**32  # EMNIST, the largest of the family, has a tenth of it


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the file ``name`` or ``name.gz`` in ``folder``, or None."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def read_idx(path: Path, dimensions: int) -> torch.Tensor:
    """Return the uint8 tensor of an idx file: ``(N, H, W)`` images or ``(N,)`` labels.

    Raises:
        DataError: the file is damaged, cut off or not of uint8 with ``dimensions`` axes.
    """
    header = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            begin = stream.read(header)
            shape = _shape(path, begin, dimensions)
            expected = math.prod(shape)
            content = stream.read(expected + 1)  # no more than promised is unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from None
    if len(content) != expected:
        held = "more" if len(content) > expected else len(content)
        raise DataError(
            f"{path}: the header promises {expected} values of shape {shape}, the file holds "
            f"{held}; fetch the file again"
        )
    values = np.frombuffer(content, dtype=np.uint8).reshape(shape)
    return torch.from_numpy(values.copy())


def _shape(path: Path, begin: bytes, dimensions: int) -> tuple[int, ...]:
    if len(begin) < 4 + 4 * dimensions or begin[:4] != bytes([0, 0, _UINT8, dimensions]):
        raise DataError(
            f"{path}: not an idx file of uint8 with {dimensions} axes, it begins with "
            f"{begin[:4].hex()!r}; fetch the file again"
        )
    sizes = np.frombuffer(begin, dtype=">u4", count=dimensions, offset=4)
    shape = tuple(int(size) for size in sizes)
    if math.prod(shape) > _MOST:
        raise DataError(f"{path}: the header promises {math.prod(shape)} values, at most {_MOST}")
    return shape
