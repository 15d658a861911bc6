"""The idx files of the MNIST family, plain or gzipped, read in place from any folder."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from regl_app.errors import DataError

_UINT8 = 0x08


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
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, _UINT8, dimensions]):
        raise DataError(
            f"{path}: not an idx file of uint8 with {dimensions} axes, it begins with "
            f"{content[:4].hex()!r}; fetch the file again"
        )
    shape = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).astype(int)
    expected = int(np.prod(shape))
    if len(content) - header != expected:
        raise DataError(
            f"{path}: the header promises {expected} values of shape {tuple(shape.tolist())}, "
            f"the file holds {len(content) - header}; fetch the file again"
        )
    values = np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
    return torch.from_numpy(values.copy())
