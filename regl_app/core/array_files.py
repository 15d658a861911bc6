"""Arrays in npz files that are never unpickled and are checked when they are read."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regl_app.core.errors import RunError
from regl_app.core.files import atomic_path

MOST_BYTES = 2**30
"""What the arrays of a file may have in all, unpacked: a run's have a few megabytes."""

Array = npt.NDArray[Any]


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays to ``path`` (npz, compressed) atomically."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays in ``path``.

    Raises:
        RunError: the file is absent, damaged or holds pickled objects.
    """
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise RunError(f"{path}: cannot be read as arrays: it is no npz archive")
        with opened as content:
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise RunError(f"{path}: its arrays must have at most {MOST_BYTES} bytes, {size}")
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: cannot be read as arrays: {error}") from error


def require(path: Path, arrays: Mapping[str, Array], name: str, dtype: str, ndim: int) -> Array:
    """Return ``arrays[name]`` after checking its type and number of dimensions.

    Raises:
        RunError: it is missing or of another form.
    """
    if name not in arrays:
        raise RunError(f"{path}: holds no array {name!r}, only {sorted(arrays)}")
    array = arrays[name]
    if array.dtype != np.dtype(dtype) or array.ndim != ndim:
        raise RunError(
            f"{path}: {name} must be {dtype} of {ndim} dimensions, got {array.dtype} {array.shape}"
        )
    return array
