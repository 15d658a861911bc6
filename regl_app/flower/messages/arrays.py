"""Arrays of Flower records, decoded here and not by numpy's reader.

That reader also opens zip archives, evaluates a header of any form as Python literals, and
allocates what the header promises: four ways in which one reply could end a run. The only form
accepted here is what ``numpy.save`` writes for the very type and shape that are expected.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array

from regl_app.core.errors import ProtocolError
from regl_app.flower.messages.fields import one_line, shown

MOST_HEADER = 512
"""Bytes before an array's values: numpy writes 128 where the shape is short."""

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([^']{1,16})', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9, ]{0,200})\), \} *\n",
    re.DOTALL,
)


def decode(name: str, array: Array, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return the values of ``array``, writable, if it is of ``dtype`` and ``shape``.

    Args:
        name: what messages call it.
        array: from a peer.
        dtype: numpy's name, e.g. ``float32``.
        shape: any number of axes.

    Raises:
        ProtocolError: it is of another type, shape or size, or in another format; nothing has
            been allocated for it then.
    """
    if (tuple(array.shape), array.dtype) != (shape, dtype):
        raise ProtocolError(
            f"{name} must be {dtype} {shape}, got "
            f"{one_line(array.dtype, 20)} {shown(tuple(array.shape))}"
        )
    kind, data = np.dtype(dtype), array.data
    size = math.prod(shape) * kind.itemsize
    if len(data) > size + MOST_HEADER:
        raise ProtocolError(
            f"{name} must have at most {size + MOST_HEADER} bytes as {dtype} {shape}, "
            f"got {len(data)}"
        )
    header = _HEADER.match(data) if array.stype == "numpy.ndarray" else None
    if header is None or int.from_bytes(header[1], "little") != header.end() - 10:
        raise ProtocolError(f"{name} cannot be decoded: it is not in numpy's npy format 1.0")
    promised = tuple(int(part) for part in header[4].decode().split(",") if part.strip())
    if (header[2].decode(), promised, len(data) - header.end()) != (kind.str, shape, size):
        raise ProtocolError(
            f"{name} cannot be decoded: its header says {shown(header[2])} {shown(promised)}, "
            f"{len(data) - header.end()} bytes follow, {size} of {dtype} {shape} were announced"
        )
    values = np.frombuffer(data, kind, offset=header.end())
    return values.reshape(shape, order="F" if header[3] == b"True" else "C").copy()
